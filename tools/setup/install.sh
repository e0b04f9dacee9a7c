#!/bin/sh
# Installs what the Makefile's targets need and this machine lacks; says nothing when nothing
# is missing. Debian and Ubuntu only; elsewhere it says what to install.
#
#	install.sh [postgres] [cc] [certs] [netns] [npm] [drivers] [frameworks] [dpkg-source] [pgbouncer] [promtool] [chromium]
#		[buildah] [systemd] [nspawn] [rpm] [ruby] [shellcheck] [shells] [openssl] [git] [jq] [etcd] [wine]
set -eu

# What counts is that a thing works, not which package it came from: a PostgreSQL of one's
# own on the PATH is as good as Debian's.
have_postgres() {
	have_server && psql --version >/dev/null 2>&1
}

# Debian keeps the server's programs off the PATH.
have_server() {
	command -v initdb >/dev/null && command -v postgres >/dev/null && return
	for initdb in /usr/lib/postgresql/*/bin/initdb; do
		[ -x "$initdb" ] && [ -x "${initdb%initdb}postgres" ] && return
	done
	return 1
}

# A compiler without the C library's headers compiles nothing.
have_cc() {
	echo '#include <stdlib.h>' | ${CC:-$(go env CC)} -x c -fsyntax-only - 2>/dev/null
}

have_certs() {
	[ "$(uname)" = Darwin ] && return # there the system has them, not a file
	for file in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem /etc/ssl/ca-bundle.pem; do
		[ -s "$file" ] && return
	done
	return 1
}

# The languages by their full names: what Debian packages, another one on the PATH cannot see.
need_drivers() {
	/usr/bin/python3 -c 'import psycopg2, psycopg, asyncpg' 2>/dev/null ||
		need 'psycopg2, psycopg and asyncpg' python3-psycopg2 python3-psycopg python3-asyncpg
	/usr/bin/python3 -c 'import pyodbc' 2>/dev/null && odbcinst -q -d -n 'PostgreSQL Unicode' >/dev/null 2>&1 ||
		need 'psqlODBC and pyodbc' odbc-postgresql odbcinst python3-pyodbc
	/usr/bin/php -r 'exit(extension_loaded("pdo_pgsql") && extension_loaded("pgsql") ? 0 : 1);' >/dev/null 2>&1 ||
		need "PHP's PDO and pgsql" php-cli php-pgsql
	/usr/bin/ruby -e 'require "pg"' 2>/dev/null ||
		need 'Ruby pg' ruby-pg
	/usr/bin/perl -MDBD::Pg -MJSON::PP -e 1 2>/dev/null ||
		need 'Perl DBD::Pg' libdbd-pg-perl
	javac -version >/dev/null 2>&1 && [ -e /usr/share/java/postgresql.jar ] && [ -e /usr/share/java/junixsocket-common.jar ] ||
		need 'a JDK, pgjdbc and junixsocket' default-jdk-headless libpostgresql-jdbc-java libjunixsocket-java
}

# What Debian does not package comes from npm.
need_frameworks() {
	/usr/bin/python3 -c 'import django, sqlalchemy' 2>/dev/null ||
		need 'Django and SQLAlchemy' python3-django python3-sqlalchemy
	/usr/bin/ruby -e 'require "active_record"' 2>/dev/null ||
		need 'Active Record' ruby-activerecord
	[ -e /usr/share/php/Illuminate/Database/autoload.php ] ||
		need "Laravel's database layer" php-illuminate-database
	[ -e /usr/share/java/HikariCP.jar ] && [ -e /usr/share/java/slf4j-nop.jar ] ||
		need 'HikariCP and SLF4J' libhikaricp-java libslf4j-java
}

# debootstrap is not on the path of an ordinary user.
have_nspawn() {
	systemd-nspawn --version >/dev/null 2>&1 && [ -x /usr/sbin/debootstrap ]
}

# Debian has Wine's program for 64 bits where no PATH leads.
have_wine() {
	command -v wine64 >/dev/null || [ -x /usr/lib/wine/wine64 ]
}

# It unpacks with the help of others, which are in packages that its own depends on.
have_dpkg_source() {
	for program in dpkg-source patch bzip2 xz; do
		command -v "$program" >/dev/null || return
	done
}

# Debian has it where only root looks.
have_pgbouncer() {
	command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ]
}

# Debian's server packages make a cluster and start it on port 5432, which is iamproxy's own.
# createcluster.conf turns that off, and belongs to postgresql-common, which therefore comes
# first. Saved under a fixed name, so that the next run can put it back if this one is killed.
conf=/etc/postgresql-common/createcluster.conf
saved=$conf.before-iamproxy
log=

# Debian starts a service as soon as it is installed, unless this script says that it
# may not (101). A script that exists already stays in effect. These
# packages have services, and all that is wanted of them is their programs.
services='pgbouncer prometheus etcd-server'
policy=/usr/sbin/policy-rc.d
ours='# of iamproxy, while it installs'

clean_up() {
	if [ -e "$saved" ]; then
		mv -f "$saved" "$conf"
	fi
	if grep -qsxF "$ours" "$policy"; then
		rm -f "$policy"
	fi
	rm -f "$log"
}

apt() {
	# Another apt may be at work, as on a machine that has just started: wait for it. And
	# leave the services that run here as they are (NEEDRESTART_MODE=l only lists them).
	DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l \
		apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" </dev/null >"$log" 2>&1 || {
		cat "$log" >&2
		return 1
	}
}

install_packages() {
	trap clean_up EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	log=$(mktemp)

	echo "installing: $*"
	# Of no matter if the lists at hand will do; if not, the install says so.
	apt update || :
	case " $* " in *" postgresql "*)
		apt install --no-install-recommends --no-upgrade postgresql-common
		# One that is there is from a run that was killed. Its apt may still be at work, so
		# it goes back only at the end. In two steps, so that it is never a half of the file.
		[ -e "$saved" ] || {
			cp -p "$conf" "$saved.new"
			mv -f "$saved.new" "$saved"
		}
		printf '\ncreate_main_cluster = false\n' >>"$conf"
		;;
	esac
	unwanted=
	for service in $services; do
		case " $* " in *" $service "*) unwanted="$unwanted $service" ;; esac
	done
	[ -z "$unwanted" ] || [ -e "$policy" ] || {
		printf '#!/bin/sh\n%s\nexit 101\n' "$ours" >"$policy.new"
		chmod 755 "$policy.new"
		mv -f "$policy.new" "$policy"
	}
	apt install --no-install-recommends "$@"
	for service in $unwanted; do
		# It must not run at the next boot either, nor if another script has started it.
		# Debian's etcd-server has the service etcd.
		invoke-rc.d --quiet "${service%-server}" stop >/dev/null 2>&1 || :
		update-rc.d "${service%-server}" disable >/dev/null
	done
}

# The second half of this script, as root.
if [ "${1-}" = --as-root ]; then
	shift
	install_packages "$@"
	exit
fi

packages='' things=''
need() {
	things="$things${things:+, }$1"
	shift
	packages="$packages${packages:+ }$*"
}
for want in "$@"; do
	case $want in
	postgres) have_postgres || need 'the PostgreSQL server and psql' postgresql ;;
	cc) have_cc || need 'a C compiler' gcc libc6-dev ;;
	certs) have_certs || need 'CA certificates' ca-certificates ;;
	netns) ip -Version >/dev/null 2>&1 || [ "$(uname)" != Linux ] || need 'ip' iproute2 ;;
	buildah) buildah --version >/dev/null 2>&1 || need buildah buildah ;;
	npm) node --version >/dev/null 2>&1 && npm --version >/dev/null 2>&1 || need 'Node.js and npm' nodejs npm ;;
	drivers) need_drivers ;;
	frameworks) need_frameworks ;;
	pgbouncer) have_pgbouncer || need PgBouncer pgbouncer ;;
	promtool) promtool --version >/dev/null 2>&1 || need promtool prometheus ;;
	chromium) chromium --version >/dev/null 2>&1 || need Chromium chromium ;;
	dpkg-source) have_dpkg_source || need "what unpacks Debian's source packages" dpkg-dev ;;
	shells) { zsh --version && fish --version; } >/dev/null 2>&1 || need 'zsh and fish' zsh fish ;;
	openssl) openssl version >/dev/null 2>&1 || need OpenSSL openssl ;;
	jq) jq --version >/dev/null 2>&1 || need jq jq ;;
	etcd) etcd --version >/dev/null 2>&1 || need etcd etcd-server ;;
	git) git --version >/dev/null 2>&1 || need Git git ;;
	rpm) rpm --version >/dev/null 2>&1 || need rpm rpm ;;
	ruby) ruby --version >/dev/null 2>&1 || need Ruby ruby ;;
	shellcheck) shellcheck --version >/dev/null 2>&1 || need ShellCheck shellcheck ;;
	nspawn) have_nspawn || need 'systemd-nspawn and debootstrap' systemd-container debootstrap debian-archive-keyring ;;
	wine) have_wine && x86_64-w64-mingw32-ld --version >/dev/null 2>&1 || need 'Wine and a linker for Windows' wine64 binutils-mingw-w64-x86-64 ;;
	systemd) systemd-analyze --version >/dev/null 2>&1 || need systemd-analyze systemd ;;
	*) echo "install.sh: unknown word '$want'" >&2; exit 2 ;;
	esac
done
if [ -z "$packages" ]; then
	if [ -w "$saved" ] || [ -w "$policy" ]; then
		clean_up
	fi
	exit 0
fi

if ! command -v apt-get >/dev/null; then
	echo "missing: $things; install it by hand, then try again" >&2
	exit 1
elif [ "$(id -u)" = 0 ]; then
	# shellcheck disable=SC2086 # one word for each package
	exec sh "$0" --as-root $packages
elif command -v sudo >/dev/null; then
	# shellcheck disable=SC2086
	exec sudo sh "$0" --as-root $packages
else
	echo "missing: $things; as root: apt-get install $packages" >&2
	exit 1
fi
