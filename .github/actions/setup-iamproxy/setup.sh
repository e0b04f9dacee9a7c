#!/usr/bin/env bash
# Puts iamproxy into the runner's tool cache, and adds its directory to the PATH of later steps.
# action.yml sets VERSION, GH_TOKEN and RELEASES.
set -euo pipefail

# A message can have an input. A line break in it must not begin another command of the workflow.
fail() {
	local message=${*//%/%25}
	message=${message//$'\r'/%0D}
	echo "::error title=setup-iamproxy::${message//$'\n'/%0A}"
	exit 1
}

[[ $VERSION =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || fail "version \"$VERSION\" is not that of a release, such as v1.2.3"

program=iamproxy
case $RUNNER_OS in
Linux) system=linux ;;
macOS) system=darwin ;;
Windows) system=windows program=iamproxy.exe ;;
*) fail "no release for $RUNNER_OS" ;;
esac
case $RUNNER_ARCH in
X64) arch=amd64 ;;
ARM64) arch=arm64 ;;
*) fail "no release for $RUNNER_ARCH" ;;
esac
file=iamproxy-$system-$arch
[[ $program != *.exe ]] || file=$file.exe

# A directory in the tool cache is complete if it has a file beside it with this name.
cached=$RUNNER_TOOL_CACHE/iamproxy/${VERSION#v}/$RUNNER_ARCH
if [[ ! -e $cached.complete ]]; then
	download=$(mktemp -d "$RUNNER_TEMP/iamproxy.XXXXXX")
	cd "$download"
	curl --fail --fail-early --silent --show-error --location --retry 3 \
		--remote-name "$RELEASES/$VERSION/$file" --remote-name "$RELEASES/$VERSION/SHA256SUMS" ||
		fail "could not download $RELEASES/$VERSION/$file"
	grep "  $file\$" SHA256SUMS >expected || fail "SHA256SUMS of $VERSION has no $file"
	if command -v sha256sum >/dev/null; then
		sha256sum --check expected
	else
		shasum --algorithm 256 --check expected
	fi || fail "the checksum of $file is not that of SHA256SUMS"
	command -v gh >/dev/null || fail "the runner has no gh, the GitHub CLI, which verifies the attestation; install it first"
	gh attestation verify "$file" --repo iamproxy/iamproxy --source-ref "refs/tags/$VERSION" ||
		fail "gh did not verify that the release workflow of iamproxy built $file of $VERSION"
	mkdir -p "$cached"
	mv "$file" "$cached/$program"
	chmod 755 "$cached/$program"
	touch "$cached.complete"
fi
"$cached/$program" version
echo "$cached" >>"$GITHUB_PATH"
