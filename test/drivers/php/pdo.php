<?php
require 'steps.php';

function connect(): PDO
{
    return new PDO('pgsql:'); // all of it is in PGHOST and the like
}

$query = function () {
    $prepared = connect()->prepare('select ?::int + ?::int, ?::text');
    $prepared->execute([40, 2, TEXT]);
    check($prepared->fetchAll(PDO::FETCH_NUM), [[42, TEXT]]);
};

$transaction = function () {
    [$conn, $other] = [connect(), connect()];
    $conn->exec('set client_min_messages = error; drop table if exists pdo_tx; create table pdo_tx (n int)');
    foreach (['rollBack' => [], 'commit' => [1]] as $end => $want) {
        $conn->beginTransaction();
        $conn->prepare('insert into pdo_tx values (?)')->execute([1]);
        $conn->$end();
        check($other->query('select n from pdo_tx')->fetchAll(PDO::FETCH_COLUMN), $want);
    }
};

$copy = function () {
    $conn = connect();
    $conn->exec('create temp table copied (n int, t text)');
    $conn->pgsqlCopyFromArray('copied', copy_lines());
    check($conn->query(COPIED)->fetch(PDO::FETCH_NUM), [5000, 5000, true]);
    check($conn->pgsqlCopyToArray('copied'), copy_lines());
};

$cancel = fn () => '–'; // PDO has none

report('PHP PDO', phpversion('pdo_pgsql'), query: $query, transaction: $transaction, copy: $copy, cancel: $cancel);
