# Installs a formula as Homebrew does, with what the formula uses of it:
#
#	ruby homebrew.rb FORMULA SYSTEM ARCH RELEASE PREFIX
#
# SYSTEM is macos or linux, ARCH is arm or intel. RELEASE is a directory with the files that the
# formula downloads. PREFIX is where it is installed.
require "digest"
require "fileutils"
require "open3"
require "pathname"
require "tmpdir"

FORMULA, SYSTEM, ARCH, RELEASE, PREFIX = ARGV

# Pathname has Homebrew's method that copies files into a directory, perhaps with other names.
class Pathname
  def install(*files)
    mkpath
    files.each do |file|
      file = { file => File.basename(file) } unless file.is_a?(Hash)
      file.each { |from, to| FileUtils.cp(from, self/to) }
    end
  end

  def write(text)
    dirname.mkpath
    File.write(to_s, text)
  end
end

module Utils
  def self.safe_popen_read(*command)
    out, status = Open3.capture2(*command.map(&:to_s))
    raise "#{command} failed" unless status.success?

    out
  end
end

# Download is what has an address and a checksum.
class Download
  def url(value = nil) = value ? @url = value : @url
  def sha256(value) = @sha256 = value

  def stage
    Dir.mktmpdir do |dir|
      Dir.chdir(dir) do
        file = File.basename(@url)
        FileUtils.cp(File.join(RELEASE, file), file)
        File.chmod(0o644, file)
        raise "#{file} has another checksum" unless Digest::SHA256.file(file).hexdigest == @sha256

        yield
      end
    end
  end
end

class Formula
  include FileUtils

  class << self
    attr_reader :main, :resources, :facts

    def inherited(formula)
      super
      formula.instance_eval { @main, @resources, @facts = Download.new, {}, {} }
    end

    %i[desc homepage version license].each { |fact| define_method(fact) { |value| facts[fact] = value } }
    %i[url sha256].each { |part| define_method(part) { |value| main.send(part, value) } }
    { on_macos: "macos", on_linux: "linux" }.each { |name, system| define_method(name) { |&block| instance_eval(&block) if system == SYSTEM } }
    { on_arm: "arm", on_intel: "intel" }.each { |name, arch| define_method(name) { |&block| instance_eval(&block) if arch == ARCH } }
    def resource(name, &block) = (resources[name] = Download.new).instance_eval(&block)
    def test(&block) = define_method(:test, &block)
  end

  def prefix = Pathname(PREFIX)
  def bin = prefix/"bin"
  def man1 = prefix/"share/man/man1"
  def doc = prefix/"share/doc/iamproxy"
  def version = self.class.facts.fetch(:version)
  def resource(name) = self.class.resources.fetch(name)
  def shell_output(command) = Utils.safe_popen_read("sh", "-c", command)
  def assert_match(part, text) = text.include?(part) || raise("#{text} does not have #{part}")

  def generate_completions_from_executable(program, *args, shells:)
    names = { bash: "etc/bash_completion.d/iamproxy", zsh: "share/zsh/site-functions/_iamproxy", fish: "share/fish/vendor_completions.d/iamproxy.fish" }
    shells.each { |shell| (prefix/names.fetch(shell)).write Utils.safe_popen_read(program, *args, shell) }
  end
end

load FORMULA
raise "no description that Homebrew takes" unless Iamproxy.facts.fetch(:desc).length <= 80

formula = Iamproxy.new
Iamproxy.main.stage do
  # This machine runs the program of its own system alone.
  puts Iamproxy.main.url
  next unless SYSTEM == "linux" && ARCH == "intel"

  formula.install
  formula.test
end
