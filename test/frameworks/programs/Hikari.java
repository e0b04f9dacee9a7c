import java.io.File;
import java.io.FileReader;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;

/** Tests HikariCP with application.properties, which it reads as Spring Boot does. */
class Hikari {
    static final String PREFIX = "spring.datasource.";

    /** Returns the properties of HikariCP: connection-timeout is connectionTimeout. */
    static HikariConfig read(String file) throws Exception {
        Properties given = new Properties(), properties = new Properties();
        try (FileReader reader = new FileReader(file)) {
            given.load(reader);
        }
        for (String name : given.stringPropertyNames()) {
            if (!name.startsWith(PREFIX)) {
                throw new AssertionError(name);
            }
            String key = name.substring(PREFIX.length());
            if (key.equals("url")) {
                key = "jdbcUrl";
            } else if (key.startsWith("hikari.")) {
                StringBuilder camel = new StringBuilder();
                for (String word : key.substring("hikari.".length()).split("-")) {
                    camel.append(camel.length() == 0 ? word : word.substring(0, 1).toUpperCase() + word.substring(1));
                }
                key = camel.toString();
            }
            properties.setProperty(key, given.getProperty(name));
        }
        return new HikariConfig(properties);
    }

    static void check(Object got, Object want) {
        if (!Objects.equals(got, want)) {
            throw new AssertionError("got %s, want %s".formatted(got, want));
        }
    }

    static Object value(Connection conn, String query, Object... parameters) throws SQLException {
        try (PreparedStatement statement = conn.prepareStatement(query)) {
            for (int i = 0; i < parameters.length; i++) {
                statement.setObject(i + 1, parameters[i]);
            }
            if (!statement.execute()) {
                return null;
            }
            try (ResultSet rows = statement.getResultSet()) {
                rows.next();
                return rows.getObject(1);
            }
        }
    }

    public static void main(String[] args) throws Exception {
        // Debian has another name for the file, with the version.
        String[] files = new File("/usr/share/java").list((dir, name) -> name.matches("HikariCP-.*\\.jar"));
        String hikari = files[0].replaceAll("HikariCP-|\\.jar", "");
        String version;
        ExecutorService threads = Executors.newFixedThreadPool(4);
        try (HikariDataSource pool = new HikariDataSource(read("application.properties"))) {
            try (Connection conn = pool.getConnection()) {
                version = conn.getMetaData().getDriverVersion();
                check(value(conn, "select current_user::text"), "app");
                value(conn, "delete from visits where id = ?", 4);
                conn.setAutoCommit(false);
                value(conn, "insert into visits values (?)", 4);
                conn.rollback();
                check(value(conn, "select count(*) from visits where id = ?", 4), 0L);
                value(conn, "insert into visits values (?)", 4);
                conn.commit();
                check(value(conn, "select count(*) from visits where id = ?", 4), 1L);
            }
            Callable<Object> pid = () -> {
                try (Connection conn = pool.getConnection()) {
                    return value(conn, "select pg_backend_pid() from pg_sleep(0.2)");
                }
            };
            Set<Object> pids = new HashSet<>();
            for (Future<Object> result : threads.invokeAll(Collections.nCopies(4, pid))) {
                pids.add(result.get());
            }
            check(pids.size(), 4);
        } finally {
            threads.shutdown();
        }
        System.out.printf("{\"framework\": \"HikariCP\", \"version\": \"%s\", \"driver\": \"pgjdbc %s\"}%n", hikari, version);
    }
}
