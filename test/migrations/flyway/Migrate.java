import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.*;
import java.util.Properties;

/**
 * Does with pgjdbc what Flyway asks of a connection, with a URL as Flyway gets it: the history and its lock have one connection, and
 * the migration, in a transaction, another.
 */
class Migrate {
    static Connection connect(String url) throws SQLException {
        Properties properties = new Properties();
        properties.put("applicationName", "migrations");
        return DriverManager.getConnection(url, properties);
    }

    public static void main(String[] args) throws Exception {
        String url = args[0], sql = Files.readString(Path.of(args[1]));
        try (Connection history = connect(url); Connection migration = connect(url)) {
            history.createStatement().execute("select pg_advisory_lock(42)");
            history.createStatement().execute("create table if not exists history (script text primary key)");
            migration.setAutoCommit(false);
            migration.createStatement().execute(sql);
            migration.commit();
            try (PreparedStatement insert = history.prepareStatement("insert into history values (?)")) {
                insert.setString(1, args[1]);
                insert.execute();
            }
            history.createStatement().execute("select pg_advisory_unlock(42)");
        }
    }
}
