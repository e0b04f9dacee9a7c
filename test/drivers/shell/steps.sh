# What the programs for the shell have in common: a step is a function of that name, run in
# a shell of its own, which prints what went wrong. LC_ALL=C has psql speak English.
set -u
export LC_ALL=C

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

sql() { psql -XAtqw -v ON_ERROR_STOP=1 -c "$1"; }

# check GOT WANT
check() {
	[ "$1" = "$2" ] || {
		echo "got $1, want $2"
		exit 1
	}
}

# until_done COMMAND...: waits until it succeeds, but for no more than 30 seconds.
until_done() {
	tries=0
	until "$@"; do
		tries=$((tries + 1))
		[ "$tries" -lt 600 ] || {
			echo "waited in vain: $*"
			exit 1
		}
		sleep 0.05
	done
}

# outcome STEP: "ok", or what it printed.
outcome() {
	if said=$("$1" 2>&1); then
		echo "${said:-ok}"
	else
		echo "failed: $said"
	fi | tr '\n\t' '  ' | sed 's/ *$//; s/[\\"]/\\&/g'
}

# report DRIVER VERSION RUNTIME
report() {
	printf '{"driver":"%s","version":"%s","runtime":"%s","steps":' "$1" "$2" "$3"
	printf '{"query":"%s",' "$(outcome query)"
	printf '"transaction":"%s",' "$(outcome transaction)"
	printf '"copy":"%s",' "$(outcome copy)"
	printf '"cancel":"%s"}}\n' "$(outcome cancel)"
}
