//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// connectionStrings are programs for the table "Connection strings" of docs/clients.md. Each
// replaces %s with the string of its driver, and prints the user.
var connectionStrings = []framework{
	{name: "psql, pgbench", file: "psql.sh", wrap: "psql %s -Atc 'select current_user'\n", command: []string{"sh", "psql.sh"}},
	python("psycopg2", "import psycopg2\n\n"+dbAPI),
	python("psycopg", "import psycopg\n\n"+dbAPI),
	python("asyncpg", `import asyncio

import asyncpg


async def main():
    conn = await %s
    print(await conn.fetchval("select current_user"))
    await conn.close()


asyncio.run(main())
`),
	python("psqlODBC", "import pyodbc\n\nprint(pyodbc.connect('%s').execute('select current_user').fetchone()[0])\n"),
	php("PHP PDO", `echo $db->query('select current_user')->fetchColumn(), "\n";`),
	php("PHP pgsql", `echo pg_fetch_result(pg_query($db, 'select current_user'), 0), "\n";`),
	{name: "Ruby pg", file: "pg.rb", wrap: "require 'pg'\nputs %s.exec('select current_user').getvalue(0, 0)\n", command: []string{"/usr/bin/ruby", "pg.rb"}},
	{name: "Perl DBD::Pg", file: "pg.pl", wrap: "use DBI;\nmy $db = %s;\nprint $db->selectrow_array('select current_user'), \"\\n\";\n", command: []string{"/usr/bin/perl", "pg.pl"}},
	{name: "pgjdbc", file: "Login.java", wrap: `import java.sql.*;

class Login {
    public static void main(String[] args) throws SQLException {
        try (Connection conn = DriverManager.getConnection("%s");
             ResultSet rows = conn.createStatement().executeQuery("select current_user")) {
            rows.next();
            System.out.println(rows.getString(1));
        }
    }
}
`, command: []string{"java", "-cp", javaPath + "postgresql.jar", "Login.java"}},
	{name: "node-postgres", file: "pg.mjs", wrap: `import pg from 'pg'
const client = %s
await client.connect()
console.log((await client.query('select current_user as name')).rows[0].name)
await client.end()
`, command: []string{"node", "pg.mjs"}},
	{name: "postgres.js", file: "postgres.mjs", wrap: "import postgres from 'postgres'\nconst sql = %s\nconsole.log((await sql`select current_user as name`)[0].name)\nawait sql.end()\n", command: []string{"node", "postgres.mjs"}},
	goProgram("pgx", `import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

func main() {
	ctx := context.Background()
	conn, err := %s
	if err != nil {
		panic(err)
	}
	var user string
	if err := conn.QueryRow(ctx, "select current_user").Scan(&user); err != nil {
		panic(err)
	}
	fmt.Println(user)
}
`),
	goProgram("lib/pq", `import (
	"database/sql"
	"fmt"

	_ "github.com/lib/pq"
)

func main() {
	db, err := %s
	if err != nil {
		panic(err)
	}
	var user string
	if err := db.QueryRow("select current_user").Scan(&user); err != nil {
		panic(err)
	}
	fmt.Println(user)
}
`),
}

// dbAPI is a program for drivers with Python's database API.
const dbAPI = `conn = %s
cursor = conn.cursor()
cursor.execute("select current_user")
print(cursor.fetchone()[0])
`

func python(name, program string) framework {
	return framework{name: name, file: "login.py", wrap: program, command: []string{"/usr/bin/python3", "login.py"}}
}

func php(name, program string) framework {
	return framework{name: name, file: "login.php", wrap: "<?php\n$db = %s;\n" + program + "\n", command: []string{"/usr/bin/php", "login.php"}}
}

func goProgram(name, program string) framework {
	return framework{name: name, file: "login.go", wrap: "package main\n\n" + program,
		programs: []string{"../../drivers/go/go.mod", "../../drivers/go/go.sum"}, command: []string{"go", "run", "-buildvcs=false", "login.go"}}
}

var connectsWith = regexp.MustCompile("(?m)^\\| ([^|]+) \\| `([^|`]+)` \\|$")

// stringsOf returns the connection strings of docs/clients.md by driver.
func stringsOf(page string) map[string]string {
	_, section, _ := strings.Cut(page, "\n## Connection strings\n")
	section, _, _ = strings.Cut(section, "\n## ")
	found := make(map[string]string)
	for _, row := range connectsWith.FindAllStringSubmatch(section, -1) {
		found[row[1]] = row[2]
	}
	return found
}

// tryString runs the driver's program with its connection string of the page.
func (f framework) tryString(ctx context.Context, page, dir string, at addresses) error {
	given, found := stringsOf(page)[f.name]
	if !found {
		return errors.New("the page has no connection string")
	}
	if err := f.install(dir); err != nil {
		return err
	}
	// Drivers that read no PGPORT have the port in the string.
	out, err := f.run(ctx, dir, strings.ReplaceAll(given, "5432", at.port), "PGPORT="+at.port)
	if err != nil {
		return err
	}
	if user := strings.TrimSpace(string(out)); user != "app" {
		return fmt.Errorf("the user is %q", user)
	}
	return nil
}

// tryStrings tries all connection strings.
func tryStrings(ctx context.Context, page, dir string, at addresses) error {
	for n, f := range connectionStrings {
		if err := f.tryString(ctx, page, filepath.Join(dir, fmt.Sprint("string", n)), at); err != nil {
			return fmt.Errorf("connection string of %s: %w", f.name, err)
		}
	}
	return nil
}
