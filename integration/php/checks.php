<?php
// PDO and the pg_ functions as applications use them. Runs every check, says which failed and why.

// The connection comes from PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE.
function pdo(array $options = []): PDO
{
    return new PDO('pgsql:', null, null, $options + [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
}

function equal(mixed $actual, mixed $expected): void
{
    if ($actual !== $expected) {
        throw new Exception(var_export($actual, true) . ' instead of ' . var_export($expected, true));
    }
}

function fails(string $state, callable $action): void
{
    try {
        $action();
    } catch (PDOException $error) {
        equal($error->getCode(), $state);
        return;
    }
    throw new Exception("no error $state");
}

function value(PDO $pdo, string $sql): mixed
{
    return $pdo->query($sql)->fetchColumn();
}

/** Each way in which PDO may send a statement with parameters. */
const WAYS = [
    'prepared' => [],
    'emulated' => [PDO::ATTR_EMULATE_PREPARES => true],
    'unprepared' => [PDO::PGSQL_ATTR_DISABLE_PREPARES => true],
];

function reads_and_writes(): void
{
    foreach (WAYS as $way => $options) {
        $pdo = pdo($options);
        $pdo->exec('DROP TABLE IF EXISTS php; CREATE TABLE php (id serial PRIMARY KEY, t text, b boolean)');
        $insert = $pdo->prepare('INSERT INTO php (t, b) VALUES (?, ?) RETURNING id');
        foreach (['é€😀', "it's"] as $i => $text) {
            $insert->bindValue(1, $text);
            $insert->bindValue(2, $i === 0, PDO::PARAM_BOOL);
            $insert->execute();
            equal($insert->fetchColumn(), $i + 1);
        }
        $select = $pdo->prepare('SELECT t, b FROM php WHERE id = :id');
        for ($i = 0; $i < 20; $i++) {
            $select->execute(['id' => $i % 2 + 1]);
            equal($select->fetch(PDO::FETCH_NUM), [['é€😀', "it's"][$i % 2], $i % 2 === 0]);
        }
        fails('23505', fn () => $pdo->exec('INSERT INTO php VALUES (1)'));
        fails('22P02', fn () => $select->execute(['id' => 'x']));
        equal($select->execute(['id' => 2]), true);
    }
}

function many_connections(): void
{
    foreach (WAYS as $way => $options) {
        $statements = [];
        for ($client = 0; $client < 12; $client++) {
            $pdo = pdo($options);
            // PDO names statements pdo_stmt_00000001 and so on: the same names on every connection.
            $statements[] = [$pdo->prepare("SELECT ?::int * $client"), $pdo->prepare('SELECT ?::int + 1'), $pdo];
        }
        for ($i = 0; $i < 20; $i++) {
            foreach ($statements as $client => [$own, $same, $pdo]) {
                $own->execute([$i]);
                equal($own->fetchColumn(), $i * $client);
                $same->execute([$i]);
                equal($same->fetchColumn(), $i + 1);
            }
        }
    }
}

function transactions(): void
{
    foreach (WAYS as $way => $options) {
        $pdo = pdo($options);
        $pdo->exec('DROP TABLE IF EXISTS php_tx; CREATE TABLE php_tx (n int)');
        $pdo->beginTransaction();
        $pdo->prepare('INSERT INTO php_tx VALUES (?)')->execute([1]);
        $pdo->exec('SAVEPOINT s');
        fails('22012', fn () => $pdo->query('SELECT 1/0'));
        fails('25P02', fn () => $pdo->query('SELECT 1'));
        $pdo->exec('ROLLBACK TO s');
        equal($pdo->inTransaction(), true);
        $pdo->commit();
        $pdo->beginTransaction();
        $pdo->exec('INSERT INTO php_tx VALUES (2)');
        $pdo->rollBack();
        equal(value($pdo, 'SELECT count(*) FROM php_tx'), 1);
    }
}

/** The value of a sequence belongs to a session: inside a transaction it is there, outside it is never another's. */
function last_insert_id(): void
{
    $clients = [pdo(), pdo(), pdo()];
    $clients[0]->exec('CREATE TABLE php_last (id serial, client int)');
    $lost = 0;
    for ($i = 0; $i < 30; $i++) {
        foreach ($clients as $number => $pdo) {
            $own = "SELECT max(id) FROM php_last WHERE client = $number";
            $pdo->beginTransaction();
            $pdo->prepare('INSERT INTO php_last (client) VALUES (?)')->execute([$number]);
            equal($pdo->lastInsertId(), (string) value($pdo, $own));
            equal($pdo->lastInsertId('php_last_id_seq'), (string) value($pdo, $own));
            $pdo->commit();
        }
        foreach ($clients as $number => $pdo) {
            $pdo->prepare('INSERT INTO php_last (client) VALUES (?)')->execute([$number]);
        }
        foreach ($clients as $number => $pdo) {
            try {
                $id = $pdo->lastInsertId();
                equal(value($pdo, "SELECT client FROM php_last WHERE id = $id"), $number);
                equal($id, (string) value($pdo, "SELECT max(id) FROM php_last WHERE client = $number"));
            } catch (PDOException $error) {
                equal($error->getCode(), '55000');
                $lost++;
            }
        }
    }
    echo "    lastInsertId outside of transactions was not defined in $lost of 90 cases\n";
}

function cursors_and_large_objects(): void
{
    $pdo = pdo();
    $pdo->beginTransaction();
    $cursor = $pdo->prepare('SELECT generate_series(1, 100) AS n', [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
    $cursor->execute();
    equal($cursor->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_ABS, 50), [50]);
    equal($cursor->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_PRIOR), [49]);
    $cursor = null;
    $oid = $pdo->pgsqlLOBCreate();
    $stream = $pdo->pgsqlLOBOpen($oid, 'w');
    fwrite($stream, str_repeat('large ', 10000));
    fclose($stream);
    equal(strlen(stream_get_contents($pdo->pgsqlLOBOpen($oid, 'r'))), 60000);
    $pdo->pgsqlLOBUnlink($oid);
    $pdo->commit();
}

function copies_and_notifications(): void
{
    $pdo = pdo();
    $pdo->exec('CREATE TABLE php_copy (n int, t text)');
    $rows = array_map(fn ($i) => "$i\trow $i", range(0, 9999));
    equal($pdo->pgsqlCopyFromArray('php_copy', $rows), true);
    equal(count($pdo->pgsqlCopyToArray('php_copy')), 10000);
    fails('22P02', fn () => $pdo->pgsqlCopyFromArray('php_copy', ["x\ty"]));
    equal(value($pdo, 'SELECT count(*) FROM php_copy'), 10000);
    $pdo->exec('LISTEN php_news');
    pdo()->exec("NOTIFY php_news, 'heard'");
    $news = $pdo->pgsqlGetNotify(PDO::FETCH_ASSOC, 10000);
    equal([$news['message'], $news['payload']], ['php_news', 'heard']);
}

function pg_functions(): void
{
    for ($client = 0; $client < 8; $client++) {
        $connections[] = pg_connect("application_name=php_$client", PGSQL_CONNECT_FORCE_NEW);
        pg_prepare($connections[$client], 'same', "SELECT \$1::int * $client");
        pg_query($connections[$client], "SET search_path = schema_$client");
    }
    for ($i = 0; $i < 20; $i++) {
        foreach ($connections as $client => $connection) {
            equal(pg_fetch_result(pg_execute($connection, 'same', [$i]), 0, 0), (string) ($i * $client));
            $seen = pg_query_params($connection, "SELECT current_setting('search_path') || \$1", ['!']);
            equal(pg_fetch_result($seen, 0, 0), "schema_$client!");
            equal(pg_parameter_status($connection, 'application_name'), "php_$client");
        }
    }
    [$one, $two] = $connections;
    pg_query($one, 'CREATE TABLE public.php_pg (id int, t text)');
    equal(pg_copy_from($one, 'public.php_pg', ["1\ta\n", "2\tb\n"]), true);
    equal(pg_affected_rows(pg_query($two, 'UPDATE public.php_pg SET t = upper(t)')), 2);
    pg_send_query($one, 'SELECT pg_sleep(30)');
    usleep(300000);
    equal(pg_cancel_query($one), true);
    equal(pg_fetch_all(pg_query($one, 'SELECT t FROM public.php_pg ORDER BY id')), [['t' => 'A'], ['t' => 'B']]);
    // What persistent connections say when they are taken up again.
    pg_query($one, 'RESET ALL');
    equal(pg_fetch_result(pg_query($one, 'SHOW search_path'), 0, 0), '"$user", public');
    equal(pg_fetch_result(pg_query($two, 'SHOW search_path'), 0, 0), 'schema_1');
}

/** What one request of `persistent_connections` does; runs in PHP's web server. */
function request(int $number): void
{
    $pdo = pdo([PDO::ATTR_PERSISTENT => true]);
    // An earlier request of this process may have set it, and nothing takes that back: with or without Howdah.
    $left = value($pdo, "SELECT current_setting('php.number', true)");
    $pdo->exec("SET php.number = '$number'");
    $select = $pdo->prepare("SELECT ?::int * $number");
    for ($i = 0; $i < 3; $i++) {
        $select->execute([$i]);
        equal($select->fetchColumn(), $i * $number);
        equal(value($pdo, 'SHOW php.number'), (string) $number);
    }
    $pdo->prepare('INSERT INTO php_persistent VALUES (?)')->execute([$number]);
    // A request that ends amid a transaction: PDO rolls it back.
    $pdo->beginTransaction();
    $pdo->exec('INSERT INTO php_persistent VALUES (-1)');
    echo $left;
}

/** A connection that a web server's process keeps from one request to the next. */
function persistent_connections(): void
{
    $pdo = pdo();
    $pdo->exec('CREATE TABLE php_persistent (n int)');
    $free = stream_socket_server('tcp://127.0.0.1:0');
    $address = stream_socket_get_name($free, false);
    fclose($free);
    $log = tempnam(sys_get_temp_dir(), 'php');
    $server = proc_open([PHP_BINARY, '-S', $address, __FILE__], [1 => ['file', $log, 'w'], 2 => ['file', $log, 'a']], $pipes);
    try {
        for ($tries = 0; !($socket = @stream_socket_client("tcp://$address")) && $tries < 200; $tries++) {
            usleep(50000);
        }
        fclose($socket);
        $kept = 0;
        for ($number = 1; $number <= 30; $number++) {
            $left = file_get_contents("http://$address/?number=$number");
            $kept += $left === (string) ($number - 1) ? 1 : 0;
        }
        equal(value($pdo, 'SELECT count(*) FROM php_persistent WHERE n > 0'), 30);
        equal(value($pdo, 'SELECT count(*) FROM php_persistent WHERE n < 0'), 0);
        equal($kept, 29);
    } catch (Throwable $error) {
        throw new Exception(file_get_contents($log), 0, $error);
    } finally {
        proc_terminate($server);
        proc_close($server);
        unlink($log);
    }
}

function many_marked_reads(): void
{
    $pdo = pdo();
    $read = $pdo->prepare('SELECT count(*) FROM php_copy AS marker_php_read WHERE n < ?');
    for ($i = 0; $i < 200; $i++) {
        $read->execute([$i]);
        equal($read->fetchColumn(), $i);
    }
}

set_error_handler(fn ($number, $text) => error_reporting() & $number ? throw new ErrorException($text) : false);
if (PHP_SAPI === 'cli-server') {
    request((int) $_GET['number']);
    return;
}
$failed = 0;
foreach ([
    'reads_and_writes', 'many_connections', 'transactions', 'last_insert_id', 'cursors_and_large_objects',
    'copies_and_notifications', 'pg_functions', 'persistent_connections', 'many_marked_reads',
] as $check) {
    $start = microtime(true);
    $verdict = 'ok';
    try {
        $check();
    } catch (Throwable $error) {
        echo $error, "\n";
        $verdict = 'FAILED';
        $failed++;
    }
    printf("  %s ... %s (%.1f s)\n", $check, $verdict, microtime(true) - $start);
}
exit($failed > 0 ? 1 : 0);
