//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/test/program"
	"github.com/iamproxy/iamproxy/test/sidecar"
)

// limit bounds a program.
const limit = 2 * time.Minute

// framework is an example of the page and the program that tests it.
type framework struct {
	name     string
	word     string   // that only its block has
	file     string   // where the program expects the example
	wrap     string   // around the example, which replaces %s
	socket   []string // what to replace for a unix socket, in pairs; the page has the second of each
	programs []string // below programs/
	command  []string
}

// folder is the folder of the unix socket on the page.
const folder = "/run/iamproxy"

const javaPath = "/usr/share/java/"

// Packages of Debian are visible to Debian's own interpreters only, which need not be first
// on the PATH.
var frameworks = []framework{
	{"rails", "adapter: postgresql", "database.yml", "%s", []string{"host: localhost", "host: " + folder},
		[]string{"rails.rb"}, []string{"/usr/bin/ruby", "rails.rb"}},
	{"django", "DATABASES", "settings.py", "%s", []string{`"HOST": "localhost"`, `"HOST": "` + folder + `"`},
		[]string{"django_app.py"}, []string{"/usr/bin/python3", "django_app.py"}},
	{"sqlalchemy", "create_engine", "engine.py", "from sqlalchemy import create_engine\n\n%s",
		[]string{"postgresql+psycopg2://app@localhost:5432/mydb", "postgresql+psycopg2://app@/mydb?host=" + folder},
		[]string{"sqlalchemy_app.py"}, []string{"/usr/bin/python3", "sqlalchemy_app.py"}},
	{"hikaricp", "spring.datasource.url", "application.properties", "%s", nil,
		[]string{"Hikari.java"}, []string{"java", "-cp", javaPath + "HikariCP.jar:" + javaPath + "postgresql.jar:" + javaPath + "slf4j-api.jar:" + javaPath + "slf4j-nop.jar", "Hikari.java"}},
	{"laravel", "'pgsql' =>", "database.php", "<?php\nreturn [\n%s];\n", []string{"'host' => 'localhost'", "'host' => '" + folder + "'"},
		[]string{"laravel.php"}, []string{"/usr/bin/php", "laravel.php"}},
	node("pg", "new pg.Pool", "import pg from 'pg'\n\n%s\nexport { pool }\n"),
	node("sequelize", "new Sequelize", "import { Sequelize } from 'sequelize'\n\n%s\nexport { sequelize }\n"),
	node("knex", "knex({", "import knex from 'knex'\n\n%s\nexport { db }\n"),
	node("typeorm", "new DataSource", "import { DataSource } from 'typeorm'\n\n%s\nexport { dataSource }\n"),
	{"prisma", "new PrismaPg", "snippet.mjs", "import { PrismaPg } from '@prisma/adapter-pg'\nimport { PrismaClient } from './generated/index.js'\n\n%s\nexport { prisma }\n",
		[]string{"host: 'localhost'", "host: '" + folder + "'"},
		[]string{"prisma.mjs", "prisma.sh", "schema.prisma", "steps.mjs"}, []string{"sh", "prisma.sh"}},
	golang("pgxpool", "pgxpool.New", `import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

func open(ctx context.Context) (*pgxpool.Pool, error) {
%s	return pool, err
}
`),
	golang("sql", "sql.Open", `import (
	"database/sql"
	"time"

	_ "github.com/lib/pq"
)

func open() (*sql.DB, error) {
%s	return db, nil
}
`),
}

// node returns a framework of Node.js.
func node(name, word, wrap string) framework {
	return framework{name, word, "snippet.mjs", wrap, []string{"host: 'localhost'", "host: '" + folder + "'"},
		[]string{name + ".mjs", "steps.mjs"}, []string{"node", name + ".mjs"}}
}

// golang returns a package for Go, with the modules of the programs that test drivers.
func golang(name, word, wrap string) framework {
	return framework{name, word, "example.go", "package main\n\n" + wrap,
		[]string{"postgres://app@localhost:5432/mydb?", "postgres://app@/mydb?host=" + folder + "&"},
		[]string{name + "/main.go", "steps.go", "../../drivers/go/go.mod", "../../drivers/go/go.sum"}, []string{"go", "run", "-buildvcs=false", "main.go", "steps.go", "example.go"}}
}

func choose(names []string) ([]framework, error) {
	return program.Choose(frameworks, func(f framework) string { return f.name }, names)
}

var fenced = regexp.MustCompile("(?ms)^```[a-z]+\n(.*?)^```$")

// example returns the framework's block of the page.
func (f framework) example(page string) (string, error) {
	var found []string
	for _, block := range fenced.FindAllStringSubmatch(page, -1) {
		if strings.Contains(block[1], f.word) {
			found = append(found, block[1])
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d blocks of the page have %q, want 1", len(found), f.word)
	}
	return found[0], nil
}

// overSocket returns the example for a unix socket, with changes that the page has.
func (f framework) overSocket(page, example string) (string, error) {
	for change := range slices.Chunk(f.socket, 2) {
		if !strings.Contains(page, strings.TrimSuffix(change[1], "&")) || !strings.Contains(example, change[0]) {
			return "", fmt.Errorf("unix socket: the example has no %q, or the page no %q", change[0], change[1])
		}
		example = strings.ReplaceAll(example, change[0], change[1])
	}
	return example, nil
}

// try runs the program with the example in dir, and returns the line of the table.
func (f framework) try(ctx context.Context, page, dir string, at addresses) ([]string, error) {
	example, err := f.example(page)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(example, "5432") || !strings.Contains(example, "localhost") {
		return nil, errors.New("the example has no localhost, or no port 5432")
	}
	if err := f.install(dir); err != nil {
		return nil, err
	}
	var said struct{ Framework, Version, Driver string }
	out, err := f.run(ctx, dir, strings.ReplaceAll(example, "5432", at.port))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return nil, fmt.Errorf("no report: %w: %s", err, out)
	}
	line := []string{said.Framework, said.Version, said.Driver, "ok", "–", "yes"}
	if f.socket != nil {
		socket, err := f.overSocket(page, example)
		if err == nil {
			_, err = f.run(ctx, dir, strings.ReplaceAll(socket, folder, at.socket))
		}
		if err != nil {
			return nil, err
		}
		line[4] = "ok"
	}
	switch _, err := f.run(ctx, dir, strings.ReplaceAll(example, "5432", at.broken)); {
	case err == nil:
		return nil, errors.New("no error, although the database cannot be reached")
	case !strings.Contains(err.Error(), "iamproxy: "):
		return nil, fmt.Errorf("the error has no message of iamproxy: %w", err)
	}
	return line, nil
}

// install copies the programs into dir. Their dependencies are linked.
func (f framework) install(dir string) error {
	const source = "test/frameworks"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range f.programs {
		text, err := os.ReadFile(filepath.Join(source, "programs", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(name)), text, 0o644)
		}
		if err != nil {
			return err
		}
	}
	modules, err := filepath.Abs(filepath.Join(source, "node_modules"))
	if err != nil {
		return err
	}
	return os.Symlink(modules, filepath.Join(dir, "node_modules"))
}

// run runs the program with an example, and returns its output.
func (f framework) run(ctx context.Context, dir, example string, env ...string) ([]byte, error) {
	if err := os.WriteFile(filepath.Join(dir, f.file), []byte(strings.Replace(f.wrap, "%s", example, 1)), 0o644); err != nil {
		return nil, err
	}
	return program.Run(ctx, limit, dir, append(append(sidecar.Environment(), "LC_ALL=C.UTF-8"), env...), f.command)
}
