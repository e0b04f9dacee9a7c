package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// object is something that a user is to have privileges on.
type object struct {
	Kind   string // as in GRANT: DATABASE, SCHEMA, TABLE (and what is like one) or SEQUENCE
	Schema string // of a table or a sequence
	Name   string
	Owner  string   // who can grant
	Lacks  []string // privileges that the user was not granted itself
	May    bool     // it has those in another way, as everybody or as a member
}

// objectsSQL is about what a user is to have privileges on. What belongs to extensions is
// theirs. The schema that each database comes with is, from PostgreSQL 15 on, of a role
// whose one member is the database's owner.
const objectsSQL = `
	WITH object(kind, schema, name, oid, owner, acl, wanted) AS (
		SELECT 'DATABASE', '', d.datname, d.oid, d.datdba, coalesce(d.datacl, acldefault('d', d.datdba)), @database::text[]
		FROM pg_database d WHERE d.datname = current_database()
		UNION ALL
		SELECT 'SCHEMA', '', n.nspname, n.oid, CASE o.rolname WHEN 'pg_database_owner' THEN d.datdba ELSE n.nspowner END,
			coalesce(n.nspacl, acldefault('n', n.nspowner)), @schema::text[]
		FROM pg_namespace n JOIN pg_roles o ON o.oid = n.nspowner JOIN pg_database d ON d.datname = current_database()
		WHERE n.nspname = ANY (@schemas::text[])
		UNION ALL
		SELECT k.kind, n.nspname, c.relname, c.oid, c.relowner, coalesce(c.relacl, acldefault(k.acl, c.relowner)), k.wanted
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN (VALUES ('TABLE', '{r,p,v,m,f}'::"char"[], 'r'::"char", @tables::text[]), ('SEQUENCE', '{S}', 's', @sequences)) k(kind, relkinds, acl, wanted)
			ON c.relkind = ANY (k.relkinds)
		WHERE n.nspname = ANY (@schemas::text[])
		AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
	)
	SELECT o.kind, o.schema::text, o.name::text, r.rolname::text AS owner, coalesce(l.lacks, '{}') AS lacks, coalesce(l.may, true) AS may
	FROM object o JOIN pg_roles r ON r.oid = o.owner JOIN pg_roles u ON u.rolname = @user
	CROSS JOIN LATERAL (
		SELECT array_agg(w.privilege ORDER BY w.n) AS lacks, bool_and(CASE o.kind
			WHEN 'DATABASE' THEN has_database_privilege(u.oid, o.oid, w.privilege)
			WHEN 'SCHEMA' THEN has_schema_privilege(u.oid, o.oid, w.privilege)
			WHEN 'SEQUENCE' THEN has_sequence_privilege(u.oid, o.oid, w.privilege)
			ELSE has_table_privilege(u.oid, o.oid, w.privilege) END) AS may
		FROM unnest(o.wanted) WITH ORDINALITY w(privilege, n)
		WHERE NOT EXISTS (SELECT FROM aclexplode(o.acl) a WHERE a.grantee = u.oid AND a.privilege_type = w.privilege)
	) l
	ORDER BY array_position('{DATABASE,SCHEMA,TABLE,SEQUENCE}'::text[], o.kind), array_position(@schemas::text[], (CASE o.kind WHEN 'SCHEMA' THEN o.name ELSE o.schema END)::text), o.name, o.oid`

// changePrivileges gives the users their level: on what is there, and by default on what
// comes later. Nothing that a user has is taken away.
func (g *granting) changePrivileges(ctx context.Context, tx pgx.Tx) error {
	if err := g.checkSchemas(ctx, tx); err != nil {
		return err
	}
	for _, user := range g.users {
		if err := g.changeObjects(ctx, tx, user); err != nil {
			return err
		}
	}
	for _, schema := range g.schemas { // now that all are known who may create there
		if err := g.changeDefaults(ctx, tx, schema); err != nil {
			return err
		}
	}
	return nil
}

func (g *granting) checkSchemas(ctx context.Context, tx pgx.Tx) error {
	for _, schema := range g.schemas {
		var there bool
		err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema).Scan(&there)
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("there is no schema %s in database %s: check --schema and --database, or create it first, with CREATE SCHEMA %s", schema, g.config.Database, quoteName(schema))
		}
	}
	return nil
}

func (g *granting) changeObjects(ctx context.Context, tx pgx.Tx, user string) error {
	before, err := g.objects(ctx, tx, user)
	if err != nil {
		return err
	}
	for rest := slices.Clone(before); len(rest) > 0; {
		var alike []object
		alike, rest = partition(rest)
		if err := grantObjects(ctx, tx, g.config.User, alike, user); err != nil {
			return err
		}
	}
	after, err := g.objects(ctx, tx, user)
	if err != nil {
		return err
	}
	return g.tellObjects(user, before, after)
}

func (g *granting) objects(ctx context.Context, tx pgx.Tx, user string) ([]object, error) {
	rows, err := tx.Query(ctx, objectsSQL, pgx.NamedArgs{
		"user": user, "schemas": g.schemas,
		"database": g.level.database, "schema": g.level.schema, "tables": g.level.tables, "sequences": g.level.sequences,
	})
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[object])
}

// partition splits off those that one statement is for.
func partition(objects []object) (alike, rest []object) {
	first := objects[0]
	for _, o := range objects {
		if o.Kind == first.Kind && o.Owner == first.Owner && slices.Equal(o.Lacks, first.Lacks) {
			alike = append(alike, o)
		} else {
			rest = append(rest, o)
		}
	}
	return alike, rest
}

// grantObjects grants what the user lacks on objects that are alike.
func grantObjects(ctx context.Context, tx pgx.Tx, admin string, objects []object, user string) error {
	first := objects[0]
	if len(first.Lacks) == 0 {
		return nil
	}
	names := make([]string, len(objects))
	for i, o := range objects {
		names[i] = o.identifier().Sanitize()
	}
	permitted, err := execAs(ctx, tx, admin, first.Owner, privilegesSQL(first.Lacks, first.Kind, strings.Join(names, ", "), user))
	if permitted || err != nil || len(objects) == 1 {
		return err
	}
	for i := range objects { // somebody may have let the administrator grant some of them
		if err := grantObjects(ctx, tx, admin, objects[i:i+1], user); err != nil {
			return err
		}
	}
	return nil
}

func (o object) identifier() pgx.Identifier {
	if o.Schema == "" {
		return pgx.Identifier{o.Name}
	}
	return pgx.Identifier{o.Schema, o.Name}
}

// tellObjects compares what the user had with what it has. Tables and sequences that
// it has no right to are noted; without a right to the others it is of no use.
func (g *granting) tellObjects(user string, before, after []object) error {
	had := make(map[string][]string)
	for _, o := range before {
		had[o.Kind+o.identifier().Sanitize()] = o.Lacks
	}
	var granted, already, missed tally
	for _, o := range after {
		lacked := had[o.Kind+o.identifier().Sanitize()]
		got := slices.DeleteFunc(slices.Clone(lacked), func(p string) bool { return slices.Contains(o.Lacks, p) })
		if len(got) > 0 {
			granted.add(o, strings.Join(got, ", "))
		}
		switch {
		case !o.May && (o.Kind == "DATABASE" || o.Kind == "SCHEMA"):
			return fmt.Errorf("%s may not grant %s on %s to %s, since it belongs to %s: let that one do it (--admin-user), or make %s a member of it",
				g.config.User, strings.Join(o.Lacks, ", "), o.words(1), user, o.Owner, g.config.User)
		case !o.May:
			missed.add(o, o.Owner)
		case len(got) == 0:
			already.add(o, g.level.name)
		}
	}
	for _, n := range granted {
		g.done = append(g.done, "granted "+n.what+" on "+n.words(n.count)+" to "+user)
	}
	for _, n := range already {
		g.done = append(g.done, user+" already has "+n.what+" on "+n.words(n.count))
	}
	for _, n := range missed {
		g.notes = append(g.notes, fmt.Sprintf("%s has no %s on %s of %s, which %s may not grant: let %s do it (--admin-user), or make %s a member of it",
			user, g.level.name, n.words(n.count), n.what, g.config.User, n.what, g.config.User))
	}
	return nil
}

// tally counts objects of one kind and schema, in the order in which they come.
type tally []counted

type counted struct {
	object
	what  string
	count int
}

func (t *tally) add(o object, what string) {
	for i := range *t {
		if n := &(*t)[i]; n.words(1) == o.words(1) && n.what == what {
			n.count++
			return
		}
	}
	*t = append(*t, counted{o, what, 1})
}

// words are for n objects like o.
func (o object) words(n int) string {
	switch {
	case o.Schema == "":
		return strings.ToLower(o.Kind) + " " + o.Name
	case n == 1:
		return fmt.Sprintf("1 %s in schema %s", strings.ToLower(o.Kind), o.Schema)
	default:
		return fmt.Sprintf("%d %ss in schema %s", n, strings.ToLower(o.Kind), o.Schema)
	}
}

// creatorsSQL are who was granted to create in a schema, or has. Up to PostgreSQL 14 all
// may in the schema public; of those, who may in the database was meant to.
const creatorsSQL = `
	SELECT r.rolname::text FROM pg_namespace n JOIN pg_database d ON d.datname = current_database()
	JOIN pg_roles r ON r.rolname = session_user OR r.oid = n.nspowner
		OR r.oid = d.datdba AND n.nspowner = (SELECT oid FROM pg_roles WHERE rolname = 'pg_database_owner')
		OR EXISTS (SELECT FROM aclexplode(n.nspacl) a WHERE a.grantee = r.oid AND a.privilege_type = 'CREATE')
		OR has_schema_privilege(r.oid, n.oid, 'CREATE') AND EXISTS (SELECT FROM aclexplode(d.datacl) a WHERE a.grantee = r.oid AND a.privilege_type = 'CREATE')
		OR EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relowner = r.oid AND c.relkind = ANY ('{r,p,v,m,f,S}'))
	WHERE n.nspname = $1 ORDER BY r.rolname`

// changeDefaults covers what is created later, which is by who creates it.
func (g *granting) changeDefaults(ctx context.Context, tx pgx.Tx, schema string) error {
	rows, err := tx.Query(ctx, creatorsSQL, schema)
	if err != nil {
		return err
	}
	creators, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, creator := range creators {
		for _, user := range g.users {
			if creator == user || isPredefined(creator) { // an owner may all; the others create nothing
				continue
			}
			if err := g.changeDefault(ctx, tx, creator, schema, user); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *granting) changeDefault(ctx context.Context, tx pgx.Tx, creator, schema, user string) error {
	what := fmt.Sprintf("%s on what %s creates in schema %s", g.level.name, creator, schema)
	var statements []string
	for _, kind := range []struct {
		name, letter string // the latter in pg_default_acl
		wanted       []string
	}{{"TABLES", "r", g.level.tables}, {"SEQUENCES", "S", g.level.sequences}} {
		var lacks []string
		err := tx.QueryRow(ctx, `
			SELECT ARRAY(SELECT w.privilege FROM unnest($5::text[]) WITH ORDINALITY w(privilege, n) WHERE NOT EXISTS (
				SELECT FROM pg_default_acl d JOIN pg_roles c ON c.oid = d.defaclrole JOIN pg_namespace s ON s.oid = d.defaclnamespace
				CROSS JOIN aclexplode(d.defaclacl) a JOIN pg_roles u ON u.oid = a.grantee
				WHERE c.rolname = $1 AND s.nspname = $2 AND u.rolname = $3 AND d.defaclobjtype = $4::"char" AND a.privilege_type = w.privilege) ORDER BY w.n)`,
			creator, schema, user, kind.letter, kind.wanted).Scan(&lacks)
		if err != nil {
			return err
		}
		if len(lacks) > 0 {
			statements = append(statements, defaultsSQL(creator, schema, lacks, kind.name, user))
		}
	}
	if len(statements) == 0 {
		g.done = append(g.done, user+" already has "+what)
		return nil
	}
	permitted, err := execAs(ctx, tx, g.config.User, creator, statements...)
	switch {
	case err != nil:
		return err
	case permitted:
		g.done = append(g.done, "granted "+what+" to "+user)
	default:
		g.notes = append(g.notes, fmt.Sprintf("%s has no %s, which %s may not grant: let %s do it (--admin-user), or make %s a member of it", user, what, g.config.User, creator, g.config.User))
	}
	return nil
}
