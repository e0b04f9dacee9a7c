//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// atRest is the time after which a process without sessions has returned memory that it
// needed once.
const atRest = 4 * time.Second

// rest measures the memory of an idle proxy, before and after the first login, and the size
// of its program. A second process has the same program: the first shares its pages with it,
// as on a host with several sidecars. What remains private is the cost of one more.
func rest(ctx context.Context, b *bench, targets []target) error {
	return b.each(ctx, proxied(targets), func(p *path) (err error) {
		second, err := b.open(ctx, target{p.name, p.binary})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, second.end()) }()
		if err := b.noteRest(ctx, p, "rest"); err != nil {
			return err
		}
		one, err := b.openSessions(ctx, p, nil, 1, little)
		if err = errors.Join(err, one.close(ctx)); err != nil {
			return err
		}
		if err := b.noteRest(ctx, p, "rest-login"); err != nil {
			return err
		}
		if p.name == pgbouncerTarget { // its libraries are separate files
			return nil
		}
		program, err := os.Stat(fmt.Sprintf("/proc/%d/exe", p.pid))
		if err != nil {
			return err
		}
		b.note("binary", p.name, float64(program.Size())/1e6)
		return nil
	})
}

func (b *bench) noteRest(ctx context.Context, p *path, figure string) error {
	if err := pause(ctx, atRest); err != nil {
		return err
	}
	m, err := memoryOf(p.pid)
	if err != nil {
		return err
	}
	b.note(figure, p.name, m.resident/1024)
	b.note(figure+"-private", p.name, m.private/1024)
	return nil
}

// idle measures the memory of idle sessions that have been used.
func idle(ctx context.Context, b *bench, targets []target) error {
	return b.each(ctx, proxied(targets), func(p *path) (err error) {
		before, err := memoryOf(p.pid)
		if err != nil {
			return err
		}
		open, err := b.openSessions(ctx, p, nil, b.size.idle, much)
		defer func() { err = errors.Join(err, open.close(ctx)) }()
		if err != nil {
			return err
		}
		stable, early, err := settled(ctx, p.pid, time.Duration(b.size.settle)*time.Second)
		if err != nil {
			return err
		}
		b.note("idle-5s", p.name, (early.resident-before.resident)/float64(len(open)))
		b.note("idle", p.name, (stable.resident-before.resident)/float64(len(open)))
		return nil
	})
}
