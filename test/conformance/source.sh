#!/bin/sh
# Gets a PostgreSQL of the installed one's major version together with its own tests, and
# compiles those that are not in Debian's packages. Prints the directory, below CACHE: server/
# has the packages' files, regress/, isolation/ and libpq_pipeline/ the tests, lib/ what they
# load into the server. BIN is the installed server's programs; only Debian's and Ubuntu's do.
#
#	source.sh BIN CACHE
#
# Nothing is installed, and apt's own lists stay as they are: those with sources in them are
# fetched into a directory of this script's.
set -eu
umask 022

bin=$1 cache=$2

work=
fail() {
	[ -z "$work" ] || [ ! -e "$work/log" ] || cat "$work/log" >&2
	echo "source.sh: $*" >&2
	exit 1
}

# postgresql-15: /usr/lib/postgresql/15/bin/postgres
package=$(dpkg -S "$bin/postgres" 2>/dev/null | sed 's/:.*//')
[ -n "$package" ] || fail "$bin is of no Debian package; unset PG_BINDIR, and install Debian's postgresql"
major=${package#postgresql-}

for ready in "$cache/$package"_*; do
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

# Tests and programs have to be of one version, and a mirror may have a version's packages
# without its source, or the other way round.
fetch() {
	apt apt-get --download-only source "$package=$1" >/dev/null &&
		apt apt-get download "$package=$1" "postgresql-client-$major=$1" "postgresql-server-dev-$major=$1" "libpq-dev=$1" >/dev/null
}

apt apt-get update >/dev/null || fail "no lists of what there is"
version=
for candidate in $(apt apt-cache --only-source showsrc "$package" | sed -n 's/^Version: //p' | sort -Vru); do
	echo "fetching $package $candidate and its source" >&2
	if fetch "$candidate"; then
		version=$candidate
		break
	fi
	rm -f "$work"/*.deb
done
[ -n "$version" ] || fail "no version of $package can be had with its source"

dpkg-source --extract "$work/${package}_${version#*:}.dsc" "$work/tree" >/dev/null 2>"$work/log" ||
	fail "the source of $package $version does not unpack"
rm "$work/log"
for deb in "$work"/*.deb; do
	case ${deb##*/} in
	*-dev*) dpkg -x "$deb" "$work/dev" ;;
	*) dpkg -x "$deb" "$work/server" ;;
	esac
done
include=$work/dev/usr/include/postgresql static=$work/dev/usr/lib/postgresql/$major/lib
tests=$work/tree/src/test

# With the flags that C needs to mean what PostgreSQL takes it to mean.
cc() {
	${CC:-$(go env CC)} -O2 -fno-strict-aliasing -fwrapv -I"$include/$major/server" "$@"
}

mkdir "$work/ready" "$work/ready/lib"
mv "$work/server" "$tests/regress" "$tests/isolation" "$tests/modules/libpq_pipeline" "$work/ready"
pkglib=$work/ready/server/usr/lib/postgresql/$major/lib
cp "$pkglib/autoinc.so" "$pkglib/refint.so" "$work/ready/lib"
cc -fPIC -shared -o "$work/ready/lib/regress.so" "$work/ready/regress/regress.c"
cc -I"$include" -o "$work/ready/libpq_pipeline/libpq_pipeline" "$work/ready/libpq_pipeline/libpq_pipeline.c" \
	"$static/libpgcommon.a" "$static/libpgport.a" -l:libpq.so.5

# In one step, so that it is never a half of it.
ready=$cache/${package}_$version
mv -T "$work/ready" "$ready"
echo "$ready"
