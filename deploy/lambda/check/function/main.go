// Function is the function of the tests in Go. It connects before it starts, and in each
// invocation.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/jackc/pgx/v5"
)

type event struct {
	SQL string `json:"sql"`
}

type result struct {
	Init    string  `json:"init"`
	Value   string  `json:"value"`
	Connect float64 `json:"connect"` // milliseconds
}

func query(ctx context.Context, sql string) (r result, err error) {
	begun := time.Now()
	conn, err := pgx.Connect(ctx, "") // the environment has PGHOST, PGUSER and PGDATABASE
	if err != nil {
		return r, err
	}
	defer conn.Close(ctx)
	r.Connect = float64(time.Since(begun).Microseconds()) / 1000
	var value any
	err = conn.QueryRow(ctx, sql).Scan(&value)
	r.Value = fmt.Sprint(value)
	return r, err
}

func main() {
	const defaultSQL = "select session_user::text"
	init, err := query(context.Background(), defaultSQL)
	if err != nil {
		log.Fatal(err)
	}
	lambda.Start(func(ctx context.Context, e event) (result, error) {
		if e.SQL == "" {
			e.SQL = defaultSQL
		}
		r, err := query(ctx, e.SQL)
		r.Init = init.Value
		return r, err
	})
}
