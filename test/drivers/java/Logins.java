import java.io.PrintStream;
import java.sql.*;

/**
 * Logs in with pgjdbc at each URL. Prints a line for each: the SQLSTATE and the message of the error,
 * or the user that has logged in.
 */
class Logins {
    static String login(String url) {
        try (Connection conn = DriverManager.getConnection(url);
             ResultSet rows = conn.createStatement().executeQuery("select current_user")) {
            rows.next();
            return rows.getString(1);
        } catch (SQLException e) {
            return (e.getSQLState() + " " + e.getMessage()).replaceAll("\\p{Cntrl}+", " ");
        }
    }

    public static void main(String[] urls) throws Exception {
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        for (String url : urls) {
            out.println(login(url));
        }
    }
}
