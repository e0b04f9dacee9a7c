//go:build linux

package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// The rows of COPY have 1 to 1.9 KB, about the largest that PostgreSQL stores in the row
// itself, and are in binary format. With short rows or text the server is the limit, and
// all targets look alike.
const (
	binaryFormat = "WITH (FORMAT binary)"
	copyTable    = "CREATE UNLOGGED TABLE copy_rows AS" +
		" SELECT i::bigint AS id, now() AS at, left(repeat(md5(i::text), 60), (1000 + i * 7919::bigint % 900)::int) AS body" +
		" FROM generate_series(1, "
)

// copyFile returns a file with the rows as COPY sends them, made at the first call.
func (b *bench) copyFile(ctx context.Context) (file string, megabytes float64, err error) {
	file = filepath.Join(b.dir, "rows")
	info, err := os.Stat(file)
	if os.IsNotExist(err) {
		b.say("making %d rows", b.size.copyRows)
		err = b.admin(ctx,
			copyTable+strconv.Itoa(b.size.copyRows)+") AS i",
			"VACUUM (FREEZE, ANALYZE) copy_rows",
			"CREATE UNLOGGED TABLE copy_in (LIKE copy_rows)",
			// A first run allocates the memory of a virtual machine.
			"INSERT INTO copy_in SELECT * FROM copy_rows",
			"ALTER TABLE copy_rows OWNER TO "+aurora.IAMUser,
			"ALTER TABLE copy_in OWNER TO "+aurora.IAMUser)
		if err != nil {
			return "", 0, err
		}
		if err = b.makeCopyFile(ctx, file); err != nil {
			return "", 0, err
		}
		info, err = os.Stat(file)
	}
	if err != nil {
		return "", 0, err
	}
	return file, float64(info.Size()) / 1e6, nil
}

func (b *bench) makeCopyFile(ctx context.Context, file string) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	conn, err := b.cluster.Admin(ctx, aurora.Database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.PgConn().CopyTo(ctx, out, "COPY copy_rows TO STDOUT "+binaryFormat)
	return err
}

// copyOut measures COPY TO with psql, which discards the rows.
func copyOut(ctx context.Context, b *bench, targets []target) error {
	_, megabytes, err := b.copyFile(ctx)
	if err != nil {
		return err
	}
	return b.each(ctx, targets, func(p *path) error {
		return b.timeCopy(ctx, p, "copy-out", megabytes, `\copy copy_rows to '/dev/null' `+binaryFormat)
	})
}

// copyIn measures COPY FROM with psql, into an empty unlogged table.
func copyIn(ctx context.Context, b *bench, targets []target) error {
	file, megabytes, err := b.copyFile(ctx)
	if err != nil {
		return err
	}
	return b.each(ctx, targets, func(p *path) error {
		if err := b.admin(ctx, "TRUNCATE copy_in", "CHECKPOINT"); err != nil {
			return err
		}
		return b.timeCopy(ctx, p, "copy-in", megabytes, `\copy copy_in from '`+file+`' `+binaryFormat)
	})
}

// timeCopy measures the speed of a COPY, and how much of it a proxy relays in a second of
// CPU time.
func (b *bench) timeCopy(ctx context.Context, p *path, figure string, megabytes float64, command string) error {
	run, err := b.client(ctx, p, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", command)
	if err != nil {
		return err
	}
	b.note(figure, p.name, megabytes/run.took.Seconds())
	if p.pid != 0 {
		b.note(figure+"-cpu", p.name, megabytes/run.proxyCPU)
	}
	return nil
}
