<?php
// Tests Laravel's database layer with an entry of config/database.php.
require '/usr/share/php/Illuminate/Database/autoload.php';

use Illuminate\Database\Capsule\Manager;

function check($got, $want)
{
    if ($got !== $want) {
        throw new Exception('got '.var_export($got, true).', want '.var_export($want, true));
    }
}

$manager = new Manager();
$manager->addConnection((require './database.php')['pgsql']);
$db = $manager->getConnection();
check($db->selectOne('select current_user as name')->name, 'app');
$db->table('visits')->where('id', 5)->delete();
try {
    $db->transaction(function ($db) {
        $db->table('visits')->insert(['id' => 5]);
        throw new DomainException();
    });
} catch (DomainException $e) {
}
check($db->table('visits')->where('id', 5)->count(), 0);
$db->transaction(fn ($db) => $db->table('visits')->insert(['id' => 5]));
check($db->table('visits')->where('id', 5)->count(), 1);
$version = trim(shell_exec("dpkg-query -W -f '\${Version}' php-illuminate-database"));
echo json_encode(['framework' => 'Laravel (Illuminate)', 'version' => explode('+', $version)[0], 'driver' => 'PDO '.phpversion('pdo_pgsql')]), "\n";
