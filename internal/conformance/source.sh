#!/bin/sh
# Gets PostgreSQL's own tests for the server whose programs are in BIN, and compiles what is
# not in Debian's packages of it. Prints the directory that has them, below CACHE: regress/,
# isolation/, libpq_pipeline/, and lib/ for what the server loads. Debian's and Ubuntu's
# PostgreSQL only, since tests and server have to go together.
#
#	source.sh BIN CACHE
#
# Nothing is installed, and apt's own lists stay as they are: those with sources in them are
# fetched into a directory of this script's.
set -eu
umask 022

bin=$1 cache=$2
pkglib=${bin%/bin}/lib

work=
fail() {
	[ -z "$work" ] || [ ! -e "$work/log" ] || cat "$work/log" >&2
	echo "source.sh: $*" >&2
	exit 1
}

# postgresql-15: /usr/lib/postgresql/15/bin/postgres
package=$(dpkg -S "$bin/postgres" 2>/dev/null | sed 's/:.*//')
[ -n "$package" ] || fail "$bin is of no Debian package; unset PG_BINDIR, and install Debian's postgresql"
# shellcheck disable=SC2016 # ${...} is dpkg-query's
show() { dpkg-query -W -f "$1" "$package"; }
# shellcheck disable=SC2016
source=$(show '${source:Package}') version=$(show '${Version}') source_version=$(show '${source:Version}')

for ready in "$cache/$package-$version" "$cache/$package-$version-tests-of-"*; do
	if [ -e "$ready" ]; then
		echo "$ready"
		exit
	fi
done

mkdir -p "$cache"
work=$(mktemp -d "$cache/new.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
work=$(cd "$work" && pwd)
mkdir -p "$work/sources" "$work/lists/partial" "$work/archives/partial"

# What this machine installs from, with the sources beside the programs.
list='' parts='' # apt-config sets them
eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
for file in "$list" "$parts"/*.list; do
	[ -e "$file" ] || continue
	sed -n 's/^[[:space:]]*deb[[:space:]]\(.*\)/deb \1\ndeb-src \1/p' "$file" >>"$work/sources/all.list"
done
for file in "$parts"/*.sources; do
	[ -e "$file" ] || continue
	sed 's/^Types:.*/Types: deb deb-src/' "$file" >"$work/sources/${file##*/}"
done

# As root apt would fetch as _apt, who may not write here.
apt() {
	(cd "$work" && "$@" -q -o APT::Sandbox::User=root \
		-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/sources" \
		-o Dir::State::lists="$work/lists" -o Dir::Cache="$work") </dev/null 2>"$work/log"
}

# The first of some versions whose source can be had.
fetch_source() {
	for source_version in "$@"; do
		if apt apt-get --download-only source "$source=$source_version" >/dev/null; then
			return
		fi
	done
	return 1
}

echo "fetching the source of $source $source_version" >&2
apt apt-get update >/dev/null || fail "no lists of what there is"
# The server's own, or else, where a mirror has not got that, the next best. A difference
# between the two ways would still be one; a test that fails on both may be the version's.
versions=$(apt apt-cache --only-source showsrc "$source" | sed -n 's/^Version: //p' | sort -Vr)
exact=$source_version
# shellcheck disable=SC2086 # one word for each version
fetch_source "$exact" $versions || fail "no source of $source can be had; if $exact is no longer there, upgrade $package"
ready=$cache/$package-$version
if [ "$source_version" != "$exact" ]; then
	echo "there is no $exact to be had, only $source_version" >&2
	ready=$ready-tests-of-$source_version
fi
# Headers and static libraries. Not installed: the first would bring a compiler of its own.
# shellcheck disable=SC2016
major=${package#postgresql-} libpq=$(dpkg-query -W -f '${Version}' libpq5)
apt apt-get download "postgresql-server-dev-$major=$version" "libpq-dev=$libpq" >/dev/null ||
	fail "no headers for $package $version; if they are no longer there, upgrade $package and libpq5"

dpkg-source --extract "$work/${source}_${source_version#*:}.dsc" "$work/tree" >/dev/null 2>"$work/log" ||
	fail "$source $source_version does not unpack"
rm "$work/log"
for deb in "$work"/*.deb; do
	dpkg -x "$deb" "$work/dev"
done
include=$work/dev/usr/include/postgresql static=$work/dev/usr/lib/postgresql/$major/lib
tests=$work/tree/src/test

# With the flags that C needs to mean what PostgreSQL takes it to mean.
cc() {
	${CC:-$(go env CC)} -O2 -fno-strict-aliasing -fwrapv -I"$include/$major/server" "$@"
}

mkdir "$work/ready" "$work/ready/lib"
cp -R "$tests/regress" "$tests/isolation" "$tests/modules/libpq_pipeline" "$work/ready"
cp "$pkglib/autoinc.so" "$pkglib/refint.so" "$work/ready/lib"
cc -fPIC -shared -o "$work/ready/lib/regress.so" "$tests/regress/regress.c"
cc -I"$include" -o "$work/ready/libpq_pipeline/libpq_pipeline" "$tests/modules/libpq_pipeline/libpq_pipeline.c" \
	"$static/libpgcommon.a" "$static/libpgport.a" -l:libpq.so.5

# In one step, so that it is never a half of it.
mv -T "$work/ready" "$ready"
echo "$ready"
