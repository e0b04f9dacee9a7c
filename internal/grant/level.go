package grant

import (
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/internal/text"
)

// Level is a set of privileges.
// https://www.postgresql.org/docs/current/ddl-priv.html
type Level struct {
	name                                string
	database, schema, tables, sequences []string
}

// Levels are the levels by name. readonly and readwrite grant in a schema what pg_read_all_data
// and pg_write_all_data grant everywhere. owner is for migrations: the user owns what it creates,
// and CREATE on the database is for schemas and trusted extensions.
//
// TRIGGER is left out: a trigger runs as the role that writes to the table, such as the
// administrator with --init. So is MAINTAIN, which came after PostgreSQL 12.
// https://www.postgresql.org/docs/current/predefined-roles.html
var Levels = map[string]*Level{
	"readonly": {
		name:      "readonly",
		database:  []string{"CONNECT"},
		schema:    []string{"USAGE"},
		tables:    []string{"SELECT"},
		sequences: []string{"SELECT"},
	},
	"readwrite": {
		name:      "readwrite",
		database:  []string{"CONNECT"},
		schema:    []string{"USAGE"},
		tables:    []string{"SELECT", "INSERT", "UPDATE", "DELETE"},
		sequences: []string{"SELECT", "USAGE", "UPDATE"},
	},
	"owner": {
		name:      "owner",
		database:  []string{"CONNECT", "CREATE", "TEMPORARY"},
		schema:    []string{"USAGE", "CREATE"},
		tables:    []string{"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES"},
		sequences: []string{"SELECT", "USAGE", "UPDATE"},
	},
}

func createSQL(user string) string { return "CREATE ROLE " + quoteName(user) + " LOGIN" }

func grantSQL(user string) string { return "GRANT " + rdsIAM + " TO " + quoteName(user) }

// privilegesSQL returns the GRANT on objects of one kind, such as TABLE. Their names are quoted.
func privilegesSQL(privileges []string, kind, objects, user string) string {
	return "GRANT " + strings.Join(privileges, ", ") + " ON " + kind + " " + objects + " TO " + quoteName(user)
}

// defaultsSQL returns the default privileges on TABLES or SEQUENCES that creator will create in
// a schema.
func defaultsSQL(creator, schema string, privileges []string, kind, user string) string {
	return "ALTER DEFAULT PRIVILEGES FOR ROLE " + quoteName(creator) + " IN SCHEMA " + quoteName(schema) +
		" GRANT " + strings.Join(privileges, ", ") + " ON " + kind + " TO " + quoteName(user)
}

func quoteName(name string) string { return pgx.Identifier{name}.Sanitize() }

func quoteNames(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = quoteName(name)
	}
	return strings.Join(quoted, ", ")
}

// WriteSQL writes what Run executes, in its order, as SQL for psql.
func (g *Grant) WriteSQL(out io.Writer) {
	for _, user := range g.Users {
		fmt.Fprintf(out, "%s; -- unless it exists\n%s; -- unless it is a member\n-- ends password logins of %s\n", createSQL(user), grantSQL(user), text.OneLine(user))
	}
	if g.Level != nil {
		for _, user := range g.Users {
			g.writePrivileges(out, user)
		}
	}
	if g.Script != nil {
		fmt.Fprintf(out, "SET search_path = %s;\n-- then %s\n", quoteNames(g.Schemas), text.OneLine(g.Script.name))
	}
}

func (g *Grant) writePrivileges(out io.Writer, user string) {
	fmt.Fprintf(out, "%s;\n", privilegesSQL(g.Level.database, "DATABASE", quoteName(g.Database), user))
	for _, schema := range g.Schemas {
		fmt.Fprintf(out, "%s;\n", privilegesSQL(g.Level.schema, "SCHEMA", quoteName(schema), user))
		fmt.Fprintf(out, "%s; -- as each owner, as far as permitted\n", privilegesSQL(g.Level.tables, "ALL TABLES IN SCHEMA", quoteName(schema), user))
		fmt.Fprintf(out, "%s;\n", privilegesSQL(g.Level.sequences, "ALL SEQUENCES IN SCHEMA", quoteName(schema), user))
		fmt.Fprintf(out, "%s; -- likewise for each other role that creates objects there\n", defaultsSQL(g.Admin.User, schema, g.Level.tables, "TABLES", user))
		fmt.Fprintf(out, "%s;\n", defaultsSQL(g.Admin.User, schema, g.Level.sequences, "SEQUENCES", user))
	}
}
