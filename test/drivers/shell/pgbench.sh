#!/bin/sh
# All of the connection is in PGHOST and the like.
. ./steps.sh

version=$(pgbench --version | sed 's/[^0-9]*\([0-9.]*\).*/\1/')

# Comes first, for it fills pgbench's own tables: by COPY.
initialize() { pgbench -i -q -s 1 >"$dir/init" 2>&1 || cat "$dir/init"; }

copy() {
	check "$copied" ''
	check "$(sql 'select count(*), min(aid), max(aid) from pgbench_accounts')" '100000|1|100000'
	echo 'in only'
}

# bench WHAT...: 4 clients, each of them 50 times, and all of them well.
bench() {
	pgbench -n -M prepared -c 4 -t 50 "$@" >"$dir/bench" 2>&1
	grep -q 'actually processed: 200/200' "$dir/bench" || {
		cat "$dir/bench"
		exit 1
	}
}

query() { bench -S; }

transaction() {
	bench
	check "$(sql 'select count(*), sum(delta) = (select sum(abalance) from pgbench_accounts) from pgbench_history')" '200|t'
}

held() { [ "$(sql "select count(*) from pg_locks where relation = 'pgbench_accounts'::regclass and granted")" = 1 ]; }

waiting() {
	[ "$(sql "select count(*) from pg_stat_activity where application_name = 'to be canceled' and wait_event_type = 'Lock'")" = 1 ]
}

# Only while it fills its tables pgbench has a cancel. It is held up there by another session,
# and would be for a minute.
cancel() {
	mkfifo "$dir/holder"
	psql -Xqw <"$dir/holder" &
	exec 3>"$dir/holder"
	echo 'begin; lock table pgbench_accounts in access share mode;' >&3
	until_done held
	PGAPPNAME='to be canceled' PGOPTIONS='-c lock_timeout=60s' pgbench -i -q -I G >"$dir/out" 2>&1 3>&- &
	until_done waiting
	kill -INT $!
	wait $!
	exec 3>&-
	wait
	grep -q 'canceling statement due to user request' "$dir/out" || check "$(cat "$dir/out")" 'a query that is canceled'
}

copied=$(initialize)
report pgbench "$version" –
