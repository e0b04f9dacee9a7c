<?php
// What the programs for PHP have in common.

set_error_handler(function ($level, $message, $file, $line) {
    throw new ErrorException($message, 0, $level, $file, $line);
});

const SLEEP = 'select pg_sleep(60)';
const TEXT = "it's 50 % \"é\"";

// What COPY carries, in its own format: with all that has to be escaped.
function copy_lines(): array
{
    return array_map(fn ($n) => "$n\trow $n: 50 % of\\tit, \\\\ and é\n", range(0, 4999));
}

// The same, as the server has it.
const COPIED = "select count(*), count(distinct n), bool_and(t = format(e'row %s: 50 %% of\\tit, \\\\ and é', n)) from copied";

function check($got, $want): void
{
    if ($got !== $want) {
        throw new Exception(sprintf('got %.200s, want %.200s', json_encode($got), json_encode($want)));
    }
}

// report runs the steps and prints what became of each. One that returns "–" is for what the
// driver does not have.
function report(string $driver, string $version, callable ...$steps): void
{
    $results = [];
    foreach ($steps as $name => $step) {
        try {
            $results[$name] = $step() ?? 'ok';
        } catch (Throwable $e) {
            $results[$name] = get_class($e) . ': ' . $e->getMessage();
        }
    }
    echo json_encode(['driver' => $driver, 'version' => $version, 'runtime' => 'PHP ' . PHP_VERSION, 'steps' => $results]), "\n";
}
