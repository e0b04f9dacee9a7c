package grant

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// object is a database object on which a user is granted privileges.
type object struct {
	Kind     string // as in GRANT: DATABASE, SCHEMA, TABLE (also a view and the like) or SEQUENCE
	Schema   string // of a table or a sequence
	Name     string
	Owner    string   // may grant the privileges
	Missing  []string // privileges that the user was not granted itself
	Indirect bool     // the user has the missing ones in another way (PUBLIC, a membership), or none is missing
}

// objectsSQL selects the objects on which a user is granted privileges, without those of
// extensions. From PostgreSQL 15 on, the schema public belongs to a role whose only member is
// the owner of the database.
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
	SELECT o.kind, o.schema::text, o.name::text, r.rolname::text AS owner, coalesce(l.missing, '{}') AS missing, coalesce(l.indirect, true) AS indirect
	FROM object o JOIN pg_roles r ON r.oid = o.owner JOIN pg_roles u ON u.rolname = @user
	CROSS JOIN LATERAL (
		SELECT array_agg(w.privilege ORDER BY w.n) AS missing, bool_and(CASE o.kind
			WHEN 'DATABASE' THEN has_database_privilege(u.oid, o.oid, w.privilege)
			WHEN 'SCHEMA' THEN has_schema_privilege(u.oid, o.oid, w.privilege)
			WHEN 'SEQUENCE' THEN has_sequence_privilege(u.oid, o.oid, w.privilege)
			ELSE has_table_privilege(u.oid, o.oid, w.privilege) END) AS indirect
		FROM unnest(o.wanted) WITH ORDINALITY w(privilege, n)
		WHERE NOT EXISTS (SELECT FROM aclexplode(o.acl) a WHERE a.grantee = u.oid AND a.privilege_type = w.privilege)
	) l
	ORDER BY array_position('{DATABASE,SCHEMA,TABLE,SEQUENCE}'::text[], o.kind), array_position(@schemas::text[], (CASE o.kind WHEN 'SCHEMA' THEN o.name ELSE o.schema END)::text), o.name, o.oid`

// applyPrivileges grants the level: on existing objects and, as default privileges, on future
// ones. It revokes nothing.
func (r *grantRun) applyPrivileges(ctx context.Context, tx pgx.Tx) error {
	if err := r.checkSchemas(ctx, tx); err != nil {
		return err
	}
	for _, user := range r.Users {
		if err := r.applyToObjects(ctx, tx, user); err != nil {
			return err
		}
	}
	for _, schema := range r.Schemas { // after the grants, which determine the roles that can create objects
		if err := r.applyDefaults(ctx, tx, schema); err != nil {
			return err
		}
	}
	return nil
}

func (r *grantRun) checkSchemas(ctx context.Context, tx pgx.Tx) error {
	for _, schema := range r.Schemas {
		var there bool
		err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema).Scan(&there)
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("schema \"%s\" does not exist in database \"%s\"; check --schema and --database, or create it first: CREATE SCHEMA %s", schema, r.Database, quoteName(schema))
		}
	}
	return nil
}

func (r *grantRun) applyToObjects(ctx context.Context, tx pgx.Tx, user string) error {
	before, err := r.objects(ctx, tx, user)
	if err != nil {
		return err
	}
	for rest := slices.Clone(before); len(rest) > 0; {
		var alike []object
		alike, rest = partition(rest)
		if err := grantObjects(ctx, tx, r.Admin.User, alike, user); err != nil {
			return err
		}
	}
	after, err := r.objects(ctx, tx, user)
	if err != nil {
		return err
	}
	return r.reportObjects(user, before, after)
}

func (r *grantRun) objects(ctx context.Context, tx pgx.Tx, user string) ([]object, error) {
	rows, err := tx.Query(ctx, objectsSQL, pgx.NamedArgs{
		"user": user, "schemas": r.Schemas,
		"database": r.Level.database, "schema": r.Level.schema, "tables": r.Level.tables, "sequences": r.Level.sequences,
	})
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[object])
}

// partition splits off the objects that are granted in one statement with the first.
func partition(objects []object) (alike, rest []object) {
	first := objects[0]
	for _, o := range objects {
		if o.Kind == first.Kind && o.Owner == first.Owner && slices.Equal(o.Missing, first.Missing) {
			alike = append(alike, o)
		} else {
			rest = append(rest, o)
		}
	}
	return alike, rest
}

// grantObjects grants the missing privileges on objects that are alike.
func grantObjects(ctx context.Context, tx pgx.Tx, admin string, objects []object, user string) error {
	first := objects[0]
	if len(first.Missing) == 0 {
		return nil
	}
	names := make([]string, len(objects))
	for i, o := range objects {
		names[i] = o.identifier().Sanitize()
	}
	permitted, err := execAsOwner(ctx, tx, admin, first.Owner, privilegesSQL(first.Missing, first.Kind, strings.Join(names, ", "), user))
	if permitted || err != nil || len(objects) == 1 {
		return err
	}
	for i := range objects { // the administrator may have the grant option on some of them
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

// reportObjects reports what was granted, by comparing the state before and after. A table or
// sequence without the privileges is noted. For a database or schema that is an error: without
// its privileges the others are useless.
func (r *grantRun) reportObjects(user string, before, after []object) error {
	missingBefore := make(map[string][]string)
	for _, o := range before {
		missingBefore[o.Kind+o.identifier().Sanitize()] = o.Missing
	}
	var granted, already, denied objectCounts
	for _, o := range after {
		added := slices.DeleteFunc(slices.Clone(missingBefore[o.Kind+o.identifier().Sanitize()]), func(p string) bool { return slices.Contains(o.Missing, p) })
		if len(added) > 0 {
			granted.add(o, strings.Join(added, ", "))
		}
		switch {
		case !o.Indirect && (o.Kind == "DATABASE" || o.Kind == "SCHEMA"):
			return fmt.Errorf("\"%s\" may not grant %s on %s to \"%s\": the owner is \"%s\"; grant as the owner (--admin-user), or make \"%s\" a member of it",
				r.Admin.User, strings.Join(o.Missing, ", "), o.describe(1), user, o.Owner, r.Admin.User)
		case !o.Indirect:
			denied.add(o, o.Owner)
		case len(added) == 0:
			already.add(o, r.Level.name)
		}
	}
	for _, n := range granted {
		r.addChange(`granted %s on %s to "%s"`, n.what, n.describe(n.count), user)
	}
	for _, n := range already {
		r.addChange(`"%s" already has %s on %s`, user, n.what, n.describe(n.count))
	}
	for _, n := range denied {
		r.addNote("%s not granted to \"%s\" on %s: the owner is \"%s\"; grant as the owner (--admin-user), or make \"%s\" a member of it",
			r.Level.name, user, n.describe(n.count), n.what, r.Admin.User)
	}
	return nil
}

// objectCounts counts objects of the same kind and schema, in their order.
type objectCounts []objectCount

type objectCount struct {
	object
	what  string // the privileges or the owner
	count int
}

func (c *objectCounts) add(o object, what string) {
	for i := range *c {
		if n := &(*c)[i]; n.describe(1) == o.describe(1) && n.what == what {
			n.count++
			return
		}
	}
	*c = append(*c, objectCount{o, what, 1})
}

// describe returns the text for n objects like o.
func (o object) describe(n int) string {
	switch {
	case o.Schema == "":
		return strings.ToLower(o.Kind) + ` "` + o.Name + `"`
	case n == 1:
		return fmt.Sprintf(`1 %s in schema "%s"`, strings.ToLower(o.Kind), o.Schema)
	default:
		return fmt.Sprintf(`%d %ss in schema "%s"`, n, strings.ToLower(o.Kind), o.Schema)
	}
}

// creatorsSQL selects the roles that can create objects in a schema, or have. Up to PostgreSQL
// 14 every role can in the schema public; of these, it selects the roles that can create in the
// database.
const creatorsSQL = `
	SELECT r.rolname::text FROM pg_namespace n JOIN pg_database d ON d.datname = current_database()
	JOIN pg_roles r ON r.rolname = session_user OR r.oid = n.nspowner
		OR r.oid = d.datdba AND n.nspowner = (SELECT oid FROM pg_roles WHERE rolname = 'pg_database_owner')
		OR EXISTS (SELECT FROM aclexplode(n.nspacl) a WHERE a.grantee = r.oid AND a.privilege_type = 'CREATE')
		OR has_schema_privilege(r.oid, n.oid, 'CREATE') AND EXISTS (SELECT FROM aclexplode(d.datacl) a WHERE a.grantee = r.oid AND a.privilege_type = 'CREATE')
		OR EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relowner = r.oid AND c.relkind = ANY ('{r,p,v,m,f,S}'))
	WHERE n.nspname = $1 ORDER BY r.rolname`

// applyDefaults grants default privileges on what each role will create in a schema.
func (r *grantRun) applyDefaults(ctx context.Context, tx pgx.Tx, schema string) error {
	rows, err := tx.Query(ctx, creatorsSQL, schema)
	if err != nil {
		return err
	}
	creators, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, creator := range creators {
		for _, user := range r.Users {
			if creator == user || IsPredefined(creator) { // an owner has all privileges; predefined roles create nothing
				continue
			}
			if err := r.applyDefault(ctx, tx, creator, schema, user); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *grantRun) applyDefault(ctx context.Context, tx pgx.Tx, creator, schema, user string) error {
	what := fmt.Sprintf(`%s on future tables and sequences of "%s" in schema "%s"`, r.Level.name, creator, schema)
	var statements []string
	for _, kind := range []struct {
		name, code string // the code is that of pg_default_acl
		privileges []string
	}{{"TABLES", "r", r.Level.tables}, {"SEQUENCES", "S", r.Level.sequences}} {
		var missing []string
		err := tx.QueryRow(ctx, `
			SELECT ARRAY(SELECT w.privilege FROM unnest($5::text[]) WITH ORDINALITY w(privilege, n) WHERE NOT EXISTS (
				SELECT FROM pg_default_acl d JOIN pg_roles c ON c.oid = d.defaclrole JOIN pg_namespace s ON s.oid = d.defaclnamespace
				CROSS JOIN aclexplode(d.defaclacl) a JOIN pg_roles u ON u.oid = a.grantee
				WHERE c.rolname = $1 AND s.nspname = $2 AND u.rolname = $3 AND d.defaclobjtype = $4::"char" AND a.privilege_type = w.privilege) ORDER BY w.n)`,
			creator, schema, user, kind.code, kind.privileges).Scan(&missing)
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			statements = append(statements, defaultsSQL(creator, schema, missing, kind.name, user))
		}
	}
	if len(statements) == 0 {
		r.addChange(`default privileges: "%s" already has %s`, user, what)
		return nil
	}
	permitted, err := execAsOwner(ctx, tx, r.Admin.User, creator, statements...)
	switch {
	case err != nil:
		return err
	case permitted:
		r.addChange(`default privileges: granted %s to "%s"`, what, user)
	default:
		r.addNote("%s not granted to \"%s\": grant as \"%s\" (--admin-user), or make \"%s\" a member of it", what, user, creator, r.Admin.User)
	}
	return nil
}
