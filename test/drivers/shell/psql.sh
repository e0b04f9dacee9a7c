#!/bin/sh
# All of the connection is in PGHOST and the like.
. ./steps.sh

version=$(psql --version | sed 's/[^0-9]*\([0-9.]*\).*/\1/')

query() {
	# \bind came with psql 16.
	if [ "${version%%.*}" -ge 16 ]; then
		got=$(printf '%s\n' "select \$1::int + \$2::int, \$3::text \\bind 40 2 'it''s 50 %' \\g" | psql -XAtqw)
	else
		got=$(sql "prepare q (int, int, text) as select \$1 + \$2, \$3; execute q(40, 2, 'it''s 50 %')")
	fi
	check "$got" "42|it's 50 %"
}

transaction() {
	sql 'set client_min_messages = error; drop table if exists psql_tx; create table psql_tx (n int)' || exit
	printf '%s\n' 'begin;' 'insert into psql_tx values (1);' 'rollback;' | psql -Xqw || exit
	check "$(sql 'select count(*) from psql_tx')" 0
	printf '%s\n' 'begin;' 'insert into psql_tx values (1);' 'commit;' | psql -Xqw || exit
	check "$(sql 'select count(*) from psql_tx')" 1
}

copy() {
	i=0
	while [ "$i" -lt 5000 ]; do
		printf '%s\trow %s: 50 %% of\\tit, \\\\ and é\n' "$i" "$i"
		i=$((i + 1))
	done >"$dir/sent"
	sql 'set client_min_messages = error; drop table if exists psql_copy; create table psql_copy (n int, t text)' || exit
	psql -Xqw -c "\\copy psql_copy from '$dir/sent'" || exit
	check "$(sql "select count(*), count(distinct n), bool_and(t = format(e'row %s: 50 %% of\\tit, \\\\ and é', n)) from psql_copy")" '5000|5000|t'
	psql -Xqw -c "\\copy psql_copy to '$dir/received'" || exit
	cmp "$dir/sent" "$dir/received"
}

asleep() {
	[ "$(sql "select count(*) from pg_stat_activity where application_name = 'to be canceled' and wait_event = 'PgSleep'")" = 1 ]
}

cancel() {
	sql 'set client_min_messages = error; drop table if exists psql_cancel; create table psql_cancel (n int)' || exit
	PGAPPNAME='to be canceled' psql -Xqw -v VERBOSITY=verbose -c 'select pg_sleep(60)' -c 'insert into psql_cancel values (1)' >"$dir/out" 2>&1 &
	until_done asleep
	kill -INT $!
	wait $!
	grep -q '57014' "$dir/out" || check "$(cat "$dir/out")" 57014
	# The second command is of the same connection.
	check "$(sql 'select count(*) from psql_cancel')" 1
}

report psql "$version" –
