// JDBC as applications use it. Runs every check, says which failed and why.

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.postgresql.PGConnection;
import org.postgresql.PGStatement;

public class Checks {
    interface Check {
        void run() throws Exception;
    }

    static Connection connect(String options) throws SQLException {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/"
            + System.getenv("PGDATABASE") + "?socketTimeout=60&" + options;
        return DriverManager.getConnection(url, System.getenv("PGUSER"), System.getenv("PGPASSWORD"));
    }

    static void equal(Object actual, Object expected) {
        if (!expected.equals(actual)) throw new AssertionError(actual + " instead of " + expected);
    }

    static void fails(String state, Check action) throws Exception {
        try {
            action.run();
        } catch (SQLException error) {
            equal(error.getSQLState(), state);
            return;
        }
        throw new AssertionError("no error " + state);
    }

    static String value(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getString(1);
        }
    }

    static void execute(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    static int number(PreparedStatement statement, int parameter) throws SQLException {
        statement.setInt(1, parameter);
        try (ResultSet rows = statement.executeQuery()) {
            rows.next();
            return rows.getInt(1);
        }
    }

    static void readsAndWrites() throws Exception {
        for (String mode : new String[] {"extended", "simple", "extendedForPrepared", "extendedCacheEverything"}) {
            try (Connection connection = connect("preferQueryMode=" + mode)) {
                execute(connection, "DROP TABLE IF EXISTS jdbc; CREATE TABLE jdbc (id serial PRIMARY KEY, t text, d date)");
                String insert = "INSERT INTO jdbc (t, d) VALUES (?, ?)";
                try (PreparedStatement statement = connection.prepareStatement(insert, new String[] {"id"})) {
                    statement.setString(1, "é€😀");
                    statement.setDate(2, java.sql.Date.valueOf("2024-02-29"));
                    equal(statement.executeUpdate(), 1);
                    ResultSet keys = statement.getGeneratedKeys();
                    keys.next();
                    equal(keys.getInt(1), 1);
                }
                equal(value(connection, "SELECT t || d FROM jdbc"), "é€😀2024-02-29");
                fails("42703", () -> execute(connection, "SELECT missing"));
                equal(connection.isValid(5), true);
            }
        }
    }

    // Executions from which on the driver prepares by name, and then trusts that it is prepared: the default, the first (-1: and
    // all values in binary form), never.
    static final int[] THRESHOLDS = {5, 1, -1, 0};

    static void serverSidePrepared() throws Exception {
        inParallel(12, client -> {
            int threshold = THRESHOLDS[client % 4];
            try (Connection connection = connect("prepareThreshold=" + threshold + "&preparedStatementCacheQueries=8");
                 PreparedStatement own = connection.prepareStatement("SELECT ?::int * " + client);
                 PreparedStatement same = connection.prepareStatement("SELECT ?::int + 1 AS marker_jdbc_prepared")) {
                for (int i = 0; i < 30; i++) {
                    equal(number(own, i), i * client);
                    equal(number(same, i), i + 1);
                }
                equal(own.unwrap(PGStatement.class).isUseServerPrepare(), threshold != 0);
                // More than the driver's cache holds: it closes the oldest.
                for (int i = 0; i < 60; i++) {
                    try (PreparedStatement one = connection.prepareStatement("SELECT ?::int + " + i % 20)) {
                        equal(number(one, i), i + i % 20);
                    }
                }
            }
        });
    }

    static void changedResultType() throws Exception {
        try (Connection connection = connect("prepareThreshold=1")) {
            execute(connection, "CREATE TABLE jdbc_change (a int); INSERT INTO jdbc_change VALUES (1)");
            try (PreparedStatement all = connection.prepareStatement("SELECT * FROM jdbc_change WHERE a = ?")) {
                for (int columns = 1; columns < 4; columns++) {
                    for (int i = 0; i < 5; i++) {
                        all.setInt(1, 1);
                        equal(all.executeQuery().getMetaData().getColumnCount(), columns);
                    }
                    execute(connection, "ALTER TABLE jdbc_change ADD c" + columns + " int DEFAULT 7");
                }
            }
        }
    }

    static void batches() throws Exception {
        for (String options : new String[] {"reWriteBatchedInserts=false", "reWriteBatchedInserts=true"}) {
            try (Connection connection = connect(options)) {
                execute(connection, "DROP TABLE IF EXISTS jdbc_batch; CREATE TABLE jdbc_batch (id int PRIMARY KEY, t text)");
                try (PreparedStatement insert = connection.prepareStatement("INSERT INTO jdbc_batch VALUES (?, ?)")) {
                    for (int i = 0; i < 1000; i++) {
                        insert.setInt(1, i);
                        insert.setString(2, "row " + i);
                        insert.addBatch();
                    }
                    equal(insert.executeBatch().length, 1000);
                    for (int id : new int[] {2000, 5, 2001}) {
                        insert.setInt(1, id);
                        insert.addBatch();
                    }
                    fails("23505", insert::executeBatch);
                }
                equal(value(connection, "SELECT count(*) FROM jdbc_batch"), "1000");
                try (Statement several = connection.createStatement()) {
                    several.addBatch("UPDATE jdbc_batch SET t = 'x' WHERE id < 3");
                    several.addBatch("DELETE FROM jdbc_batch WHERE id > 990");
                    equal(java.util.Arrays.toString(several.executeBatch()), "[3, 9]");
                }
            }
        }
    }

    static void transactions() throws Exception {
        try (Connection connection = connect("")) {
            execute(connection, "CREATE TABLE jdbc_tx (n int)");
            connection.setAutoCommit(false);
            execute(connection, "INSERT INTO jdbc_tx VALUES (1)");
            Savepoint savepoint = connection.setSavepoint("named");
            fails("22012", () -> value(connection, "SELECT 1/0"));
            fails("25P02", () -> value(connection, "SELECT 1"));
            connection.rollback(savepoint);
            execute(connection, "INSERT INTO jdbc_tx VALUES (2)");
            connection.releaseSavepoint(connection.setSavepoint());
            connection.commit();
            execute(connection, "INSERT INTO jdbc_tx VALUES (3)");
            connection.rollback();
            equal(value(connection, "SELECT string_agg(n::text, ' ' ORDER BY n) FROM jdbc_tx"), "1 2");
            connection.rollback();
            connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            equal(value(connection, "SHOW transaction_isolation"), "serializable");
            connection.commit();
            connection.setReadOnly(true);
            equal(value(connection, "SELECT count(*) FROM jdbc_tx AS marker_jdbc_read_only"), "2");
            fails("25006", () -> execute(connection, "INSERT INTO jdbc_tx VALUES (4)"));
            connection.rollback();
            connection.setReadOnly(false);
            execute(connection, "INSERT INTO jdbc_tx VALUES (5)");
            connection.commit();
            equal(value(connection, "SELECT count(*) FROM jdbc_tx"), "3");
        }
        // A savepoint before each statement, so that an error does not end the transaction.
        try (Connection connection = connect("autosave=always")) {
            connection.setAutoCommit(false);
            try (PreparedStatement divide = connection.prepareStatement("SELECT 10 / ?::int")) {
                for (int i = 0; i < 20; i++) {
                    if (i % 3 == 0) {
                        fails("22012", () -> number(divide, 0));
                    }
                    equal(number(divide, 5), 2);
                }
            }
            connection.commit();
        }
    }

    static void cursors() throws Exception {
        try (Connection connection = connect("defaultRowFetchSize=70")) {
            connection.setAutoCommit(false);
            String sql = "SELECT i FROM generate_series(1, 1000) i ORDER BY i";
            try (Statement one = connection.createStatement(); Statement two = connection.createStatement();
                 ResultSet first = one.executeQuery(sql); ResultSet second = two.executeQuery(sql)) {
                long sum = 0;
                while (first.next() && second.next()) sum += first.getInt(1) * 2 - second.getInt(1);
                equal(sum, 500500L);
            }
            connection.commit();
        }
        try (Connection connection = connect("")) {
            try (Statement limited = connection.createStatement()) {
                limited.setMaxRows(3);
                ResultSet rows = limited.executeQuery("SELECT generate_series(1, 10)");
                int count = 0;
                while (rows.next()) count++;
                equal(count, 3);
            }
        }
    }

    static void copies() throws Exception {
        try (Connection connection = connect("")) {
            execute(connection, "CREATE TABLE jdbc_copy (n int, t text)");
            var copies = connection.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder lines = new StringBuilder();
            for (int i = 0; i < 20000; i++) lines.append(i).append("\trow ").append(i).append('\n');
            equal(copies.copyIn("COPY jdbc_copy FROM STDIN", new StringReader(lines.toString())), 20000L);
            StringWriter out = new StringWriter();
            copies.copyOut("COPY (SELECT n FROM jdbc_copy ORDER BY n LIMIT 3) TO STDOUT", out);
            equal(out.toString(), "0\n1\n2\n");
            fails("22P02", () -> copies.copyIn("COPY jdbc_copy FROM STDIN", new StringReader("x\ty\n")));
            equal(value(connection, "SELECT count(*) FROM jdbc_copy"), "20000");
        }
    }

    static void notifications() throws Exception {
        try (Connection listener = connect(""); Connection teller = connect("")) {
            execute(listener, "LISTEN jdbc_news");
            execute(teller, "NOTIFY jdbc_news, 'heard'");
            var news = listener.unwrap(PGConnection.class).getNotifications(10000);
            equal(news.length + news[0].getName() + news[0].getParameter(), "1jdbc_newsheard");
            execute(listener, "UNLISTEN *");
        }
    }

    static void settings() throws Exception {
        inParallel(8, client -> {
            String name = "jdbc_" + client;
            try (Connection connection = connect("ApplicationName=" + name + "&currentSchema=schema_" + client)) {
                for (int i = 0; i < 20; i++) {
                    equal(value(connection, "SHOW application_name"), name);
                    equal(value(connection, "SHOW search_path"), "schema_" + client);
                }
                connection.setClientInfo("ApplicationName", "changed");
                connection.setSchema("elsewhere");
                execute(connection, "SET TIME ZONE 'Asia/Tokyo'");
                equal(value(connection, "SHOW application_name"), "changed");
                equal(value(connection, "SHOW search_path"), "elsewhere");
                equal(value(connection, "SELECT timestamptz '2024-01-01 00:00Z'"), "2024-01-01 09:00:00+09");
            }
        });
    }

    static void cancelling() throws Exception {
        try (Connection connection = connect(""); Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            fails("57014", () -> statement.execute("SELECT pg_sleep(30)"));
            equal(value(connection, "SELECT 'alive'"), "alive");
        }
        fails("28P01", () -> DriverManager.getConnection("jdbc:postgresql://" + System.getenv("PGHOST") + ":"
            + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), System.getenv("PGUSER"), "wrong"));
    }

    static void metadata() throws Exception {
        try (Connection connection = connect("")) {
            List<String> columns = new ArrayList<>();
            try (ResultSet rows = connection.getMetaData().getColumns(null, "public", "jdbc_batch", null)) {
                while (rows.next()) columns.add(rows.getString("COLUMN_NAME") + " " + rows.getString("TYPE_NAME"));
            }
            equal(columns, List.of("id int4", "t text"));
            try (ResultSet keys = connection.getMetaData().getPrimaryKeys(null, "public", "jdbc_batch")) {
                equal(keys.next() ? keys.getString("COLUMN_NAME") : "", "id");
            }
            try (Statement statement = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE);
                 ResultSet rows = statement.executeQuery("SELECT id, t FROM jdbc_batch WHERE id = 7")) {
                rows.next();
                rows.updateString("t", "updated");
                rows.updateRow();
            }
            equal(value(connection, "SELECT t FROM jdbc_batch WHERE id = 7"), "updated");
        }
    }

    static void manyMarkedReads() throws Exception {
        try (Connection connection = connect("");
             PreparedStatement read = connection.prepareStatement("SELECT count(*) FROM jdbc_batch AS marker_jdbc_read WHERE id < ?")) {
            for (int i = 0; i < 200; i++) equal(number(read, i), i);
        }
        // BEGIN READ ONLY comes in one batch with the first statement.
        try (Connection connection = connect("")) {
            connection.setReadOnly(true);
            connection.setAutoCommit(false);
            for (int i = 0; i < 50; i++) {
                equal(value(connection, "SELECT max(id) FROM jdbc_batch AS marker_jdbc_begins"), "990");
                connection.commit();
            }
        }
    }

    interface Client {
        void run(int number) throws Exception;
    }

    static void inParallel(int clients, Client work) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(clients);
        List<Future<?>> running = new ArrayList<>();
        for (int i = 0; i < clients; i++) {
            int number = i;
            running.add(threads.submit((Callable<Void>) () -> {
                work.run(number);
                return null;
            }));
        }
        threads.shutdown();
        for (Future<?> one : running) one.get();
    }

    public static void main(String[] arguments) {
        var checks = new java.util.LinkedHashMap<String, Check>();
        checks.put("readsAndWrites", Checks::readsAndWrites);
        checks.put("serverSidePrepared", Checks::serverSidePrepared);
        checks.put("changedResultType", Checks::changedResultType);
        checks.put("batches", Checks::batches);
        checks.put("transactions", Checks::transactions);
        checks.put("cursors", Checks::cursors);
        checks.put("copies", Checks::copies);
        checks.put("notifications", Checks::notifications);
        checks.put("settings", Checks::settings);
        checks.put("cancelling", Checks::cancelling);
        checks.put("metadata", Checks::metadata);
        checks.put("manyMarkedReads", Checks::manyMarkedReads);
        int failed = 0;
        for (var check : checks.entrySet()) {
            long start = System.nanoTime();
            String verdict = "ok";
            try {
                check.getValue().run();
            } catch (Throwable error) {
                error.printStackTrace(System.out);
                verdict = "FAILED";
                failed++;
            }
            System.out.printf("  %s ... %s (%.1f s)%n", check.getKey(), verdict, (System.nanoTime() - start) / 1e9);
        }
        System.exit(failed > 0 ? 1 : 0);
    }
}
