package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/internal/text"
)

// level is what a user gets, by PostgreSQL's names of privileges.
// https://www.postgresql.org/docs/current/ddl-priv.html
type level struct {
	name                                string
	database, schema, tables, sequences []string
}

// levels are by their names. The first two give in a schema what pg_read_all_data and
// pg_write_all_data give everywhere. The last is for who runs migrations, and owns what
// it creates; CREATE on the database is for schemas and trusted extensions. TRIGGER is left
// out, since a trigger runs as whoever writes to the table, the administrator with --init
// say; and so is what came after PostgreSQL 12 (MAINTAIN).
// https://www.postgresql.org/docs/current/predefined-roles.html
var levels = map[string]*level{
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

// privilegesSQL is for objects of one kind, such as "TABLE", whose names are quoted.
func privilegesSQL(privileges []string, kind, objects, user string) string {
	return "GRANT " + strings.Join(privileges, ", ") + " ON " + kind + " " + objects + " TO " + quoteName(user)
}

// defaultsSQL is for what creator will create in schema: "TABLES" or "SEQUENCES".
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

// print writes what would be done, in its order, as SQL for psql.
func (g *granting) print(out io.Writer, database, admin string) {
	for _, user := range g.users {
		fmt.Fprintf(out, "%s; -- unless it is there\n%s; -- unless it has that\n", createSQL(user), grantSQL(user))
	}
	if g.level != nil {
		for _, user := range g.users {
			g.printPrivileges(out, user, database, admin)
		}
	}
	if g.init != nil {
		fmt.Fprintf(out, "SET search_path = %s;\n-- then %s\n", quoteNames(g.schemas), text.OneLine(g.init.name))
	}
}

func (g *granting) printPrivileges(out io.Writer, user, database, admin string) {
	fmt.Fprintf(out, "%s;\n", privilegesSQL(g.level.database, "DATABASE", quoteName(database), user))
	for _, schema := range g.schemas {
		fmt.Fprintf(out, "%s;\n", privilegesSQL(g.level.schema, "SCHEMA", quoteName(schema), user))
		fmt.Fprintf(out, "%s; -- of each owner's, as far as its rights can be had\n", privilegesSQL(g.level.tables, "ALL TABLES IN SCHEMA", quoteName(schema), user))
		fmt.Fprintf(out, "%s;\n", privilegesSQL(g.level.sequences, "ALL SEQUENCES IN SCHEMA", quoteName(schema), user))
		fmt.Fprintf(out, "%s; -- and so for each other role that creates there\n", defaultsSQL(admin, schema, g.level.tables, "TABLES", user))
		fmt.Fprintf(out, "%s;\n", defaultsSQL(admin, schema, g.level.sequences, "SEQUENCES", user))
	}
}
