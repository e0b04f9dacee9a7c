# The formula for iamproxy's tap, written by `make release`.
class Iamproxy < Formula
  desc "Logins to Amazon RDS and Aurora for PostgreSQL with IAM, from any client"
  homepage "https://github.com/iamproxy/iamproxy"
  version "{{.Version}}"
  license "Apache-2.0"

  on_macos do
    on_arm do
      url "{{url "iamproxy-darwin-arm64"}}"
      sha256 "{{sha256 "iamproxy-darwin-arm64"}}"
    end
    on_intel do
      url "{{url "iamproxy-darwin-amd64"}}"
      sha256 "{{sha256 "iamproxy-darwin-amd64"}}"
    end
  end

  on_linux do
    on_arm do
      url "{{url "iamproxy-linux-arm64"}}"
      sha256 "{{sha256 "iamproxy-linux-arm64"}}"
    end
    on_intel do
      url "{{url "iamproxy-linux-amd64"}}"
      sha256 "{{sha256 "iamproxy-linux-amd64"}}"
    end
  end

  # The licenses of the linked modules must accompany the binary.
  resource "licenses" do
    url "{{url "iamproxy.licenses.txt"}}"
    sha256 "{{sha256 "iamproxy.licenses.txt"}}"
  end

  def install
    bin.install Dir["iamproxy-*"].first => "iamproxy"
    chmod 0755, bin/"iamproxy"
    generate_completions_from_executable(bin/"iamproxy", "completion", shells: [:bash, :zsh, :fish])
    (man1/"iamproxy.1").write Utils.safe_popen_read(bin/"iamproxy", "man")
    resource("licenses").stage { doc.install "iamproxy.licenses.txt" }
  end

  test do
    assert_match "iamproxy v#{version} ", shell_output("#{bin}/iamproxy version")
  end
end
