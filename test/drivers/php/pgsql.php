<?php
require 'steps.php';

function connect(): PgSql\Connection
{
    return pg_connect('', PGSQL_CONNECT_FORCE_NEW); // all of it is in PGHOST and the like
}

$query = function () {
    $conn = connect();
    pg_prepare($conn, 'q', 'select $1::int + $2::int, $3::text');
    check(pg_fetch_all(pg_execute($conn, 'q', [40, 2, TEXT]), PGSQL_NUM), [['42', TEXT]]);
};

$transaction = function () {
    [$conn, $other] = [connect(), connect()];
    pg_query($conn, 'set client_min_messages = error; drop table if exists pgsql_tx; create table pgsql_tx (n int)');
    foreach (['rollback' => [], 'commit' => ['1']] as $end => $want) {
        pg_query($conn, 'begin');
        pg_query_params($conn, 'insert into pgsql_tx values ($1)', [1]);
        pg_query($conn, $end);
        check(pg_fetch_all_columns(pg_query($other, 'select n from pgsql_tx')), $want);
    }
};

$copy = function () {
    $conn = connect();
    pg_query($conn, 'create temp table copied (n int, t text)');
    check(pg_copy_from($conn, 'copied', copy_lines()), true);
    check(pg_fetch_row(pg_query($conn, COPIED)), ['5000', '5000', 't']);
    check(pg_copy_to($conn, 'copied'), copy_lines());
};

$cancel = function () {
    [$conn, $other] = [connect(), connect()];
    pg_send_query($conn, SLEEP);
    $asleep = fn () => pg_fetch_result(pg_query_params(
        $other, "select count(*) from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'", [pg_get_pid($conn)]), 0);
    for ($tries = 0; $asleep() !== '1'; usleep(10_000)) {
        $tries++ < 3000 || throw new Exception('waited in vain for the query to run');
    }
    $since = hrtime(true);
    check(pg_cancel_query($conn), true);
    // It waits for the query's end and keeps the server's answer to itself.
    check(hrtime(true) - $since < 30e9, true);
    check(pg_fetch_row(pg_query($conn, 'select 1')), ['1']);
};

report('PHP pgsql', phpversion('pgsql'), query: $query, transaction: $transaction, copy: $copy, cancel: $cancel);
