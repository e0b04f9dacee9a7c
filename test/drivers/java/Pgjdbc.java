import java.io.PrintStream;
import java.io.StringReader;
import java.io.StringWriter;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

/** Tries pgjdbc, which reads none of libpq's variables. */
class Pgjdbc {
    interface Step {
        void run() throws Exception;
    }

    static final String TEXT = "it's 50 % \"é\"";
    static final Map<String, String> env = System.getenv();

    static Connection connect() throws SQLException {
        String host = env.get("PGHOST"), socket = "";
        if (host.startsWith("/")) { // its sockets come from another library, which wants the file
            socket = "&socketFactory=org.newsclub.net.unix.AFUNIXSocketFactory$FactoryArg&socketFactoryArg=%s/.s.PGSQL.%s".formatted(
                host, env.get("PGPORT"));
            host = "localhost";
        }
        String certificate = ""; // its key is in another format than that of libpq
        if (env.containsKey("PGSSLCERT")) {
            certificate = "&sslcert=%s&sslkey=%s.pk8".formatted(env.get("PGSSLCERT"), env.get("PGSSLKEY"));
        }
        return DriverManager.getConnection("jdbc:postgresql://%s:%s/%s?sslmode=%s&user=%s%s%s".formatted(
            host, env.get("PGPORT"), env.get("PGDATABASE"), env.get("PGSSLMODE"), env.get("PGUSER"), socket, certificate));
    }

    static void check(Object got, Object want) {
        if (!Objects.equals(got, want)) {
            throw new AssertionError("got %.200s, want %.200s".formatted(got, want));
        }
    }

    static List<Object> row(ResultSet rows) throws SQLException {
        List<Object> row = new ArrayList<>();
        if (rows.next()) {
            for (int i = 1; i <= rows.getMetaData().getColumnCount(); i++) {
                row.add(rows.getObject(i));
            }
        }
        return row;
    }

    static void query() throws Exception {
        try (Connection conn = connect(); PreparedStatement prepared = conn.prepareStatement("select ?::int + ?::int, ?::text")) {
            prepared.unwrap(org.postgresql.PGStatement.class).setPrepareThreshold(1);
            prepared.setInt(1, 40);
            prepared.setInt(2, 2);
            prepared.setString(3, TEXT);
            check(row(prepared.executeQuery()), List.of(42, TEXT));
        }
    }

    static void transaction() throws Exception {
        try (Connection conn = connect(); Connection other = connect(); Statement seen = other.createStatement()) {
            conn.createStatement().execute("drop table if exists jdbc_tx; create table jdbc_tx (n int)");
            conn.setAutoCommit(false);
            try (PreparedStatement insert = conn.prepareStatement("insert into jdbc_tx values (?)")) {
                insert.setInt(1, 1);
                insert.executeUpdate();
                conn.rollback();
                check(row(seen.executeQuery("select n from jdbc_tx")), List.of());
                insert.executeUpdate();
                conn.commit();
                check(row(seen.executeQuery("select n from jdbc_tx")), List.of(1));
            }
        }
    }

    static void copy() throws Exception {
        // With all that has to be escaped.
        String sent = IntStream.range(0, 5000).mapToObj(n -> n + "\trow " + n + ": 50 % of\\tit, \\\\ and é\n").collect(Collectors.joining());
        try (Connection conn = connect(); Statement statement = conn.createStatement()) {
            statement.execute("create temp table copied (n int, t text)");
            CopyManager manager = conn.unwrap(PGConnection.class).getCopyAPI();
            check(manager.copyIn("copy copied from stdin", new StringReader(sent)), 5000L);
            check(row(statement.executeQuery("select count(distinct n), bool_and(t = format(e'row %s: 50 %% of\\tit, \\\\ and é', n)) from copied")),
                List.of(5000L, true));
            StringWriter received = new StringWriter();
            manager.copyOut("copy copied to stdout", received);
            check(received.toString(), sent);
        }
    }

    static Void cancelWhenAsleep(Statement statement, int pid) throws Exception {
        try (Connection other = connect(); Statement poll = other.createStatement()) {
            String asleep = "select 1 from pg_stat_activity where wait_event = 'PgSleep' and pid = " + pid;
            for (int tries = 0; row(poll.executeQuery(asleep)).isEmpty(); tries++) {
                if (tries > 3000) {
                    throw new AssertionError("waited in vain for the query to run");
                }
                Thread.sleep(10);
            }
        }
        statement.cancel();
        return null;
    }

    static void cancel() throws Exception {
        ExecutorService executor = Executors.newSingleThreadExecutor();
        try (Connection conn = connect(); Statement statement = conn.createStatement()) {
            int pid = conn.unwrap(PGConnection.class).getBackendPID();
            Future<Void> canceled = executor.submit(() -> cancelWhenAsleep(statement, pid));
            String state = "none";
            try {
                statement.execute("select pg_sleep(60)");
            } catch (SQLException e) {
                state = e.getSQLState();
            }
            canceled.get();
            check(state, "57014");
            check(row(statement.executeQuery("select 1")), List.of(1));
        } finally {
            executor.shutdown();
        }
    }

    static String outcome(Step step) {
        try {
            step.run();
            return "ok";
        } catch (Exception | AssertionError e) {
            return e.toString().replaceAll("[\\\\\"\\p{Cntrl}]", " ");
        }
    }

    public static void main(String[] args) throws Exception {
        Map<String, Step> steps = new LinkedHashMap<>();
        steps.put("query", Pgjdbc::query);
        steps.put("transaction", Pgjdbc::transaction);
        steps.put("copy", Pgjdbc::copy);
        steps.put("cancel", Pgjdbc::cancel);
        String results = steps.entrySet().stream()
            .map(step -> "\"%s\":\"%s\"".formatted(step.getKey(), outcome(step.getValue())))
            .collect(Collectors.joining(","));
        new PrintStream(System.out, true, "UTF-8").println("{\"driver\":\"pgjdbc\",\"version\":\"%s\",\"runtime\":\"Java %s\",\"steps\":{%s}}".formatted(
            org.postgresql.util.DriverInfo.DRIVER_VERSION, System.getProperty("java.version"), results));
    }
}
