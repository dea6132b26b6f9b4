// database/sql with lib/pq and with pgx, and pgx itself, as applications use them. Runs every check, says which failed
// and why.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
	_ "github.com/jackc/pgx/v4/stdlib"
	"github.com/lib/pq"
)

var ctx = context.Background()

// The connection comes from PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE.
func open(driver string, options string) *sql.DB {
	return must(sql.Open(driver, "sslmode=disable "+options))
}

func connect(options string) *pgx.Conn {
	return must(pgx.Connect(ctx, "sslmode=disable "+options))
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func equal(actual, expected any) {
	if actual != expected {
		panic(fmt.Sprintf("%#v instead of %#v", actual, expected))
	}
}

func fails(err error, state string) {
	var ofPgx *pgconn.PgError
	var ofPq *pq.Error
	switch {
	case errors.As(err, &ofPgx):
		equal(ofPgx.Code, state)
	case errors.As(err, &ofPq):
		equal(string(ofPq.Code), state)
	default:
		panic(fmt.Sprintf("%v instead of %s", err, state))
	}
}

func databaseSQL(driver string) {
	db := open(driver, "")
	defer db.Close()
	must(db.Exec("DROP TABLE IF EXISTS gopher; CREATE TABLE gopher (id int PRIMARY KEY, t text)"))
	insert := must(db.Prepare("INSERT INTO gopher VALUES ($1, $2)"))
	var all sync.WaitGroup
	faults := make(chan any, 40)
	for worker := 0; worker < 40; worker++ {
		all.Add(1)
		go func(worker int) {
			defer all.Done()
			defer func() {
				if fault := recover(); fault != nil {
					faults <- fault
				}
			}()
			for i := 0; i < 10; i++ {
				must(insert.Exec(worker*10+i, "é€😀"))
				var n int
				check(db.QueryRow("SELECT $1::int + 1", i).Scan(&n))
				equal(n, i+1)
			}
		}(worker)
	}
	all.Wait()
	close(faults)
	for fault := range faults {
		panic(fault)
	}
	var count int
	check(db.QueryRow("SELECT count(*) FROM gopher WHERE t = $1", "é€😀").Scan(&count))
	equal(count, 400)
	_, err := insert.Exec(1, "again")
	fails(err, "23505")

	tx := must(db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead}))
	must(tx.Exec("DELETE FROM gopher WHERE id = $1", 1))
	_, err = tx.Exec("SELECT 1/0")
	fails(err, "22012")
	check(tx.Rollback())
	tx = must(db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}))
	_, err = tx.Exec("DELETE FROM gopher")
	fails(err, "25006")
	check(tx.Rollback())
	check(db.QueryRow("SELECT count(*) FROM gopher").Scan(&count))
	equal(count, 400)

	// A context that ends cancels the statement, and the connection is not used again.
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, err = db.ExecContext(short, "SELECT pg_sleep(30)"); err == nil {
		panic("not cancelled")
	}
	check(db.QueryRow("SELECT 7").Scan(&count))
	equal(count, 7)
}

func pqCopyAndListen() {
	db := open("postgres", "")
	defer db.Close()
	must(db.Exec("CREATE TABLE gopher_pq (n int, t text)"))
	tx := must(db.Begin())
	rows := must(tx.Prepare(pq.CopyIn("gopher_pq", "n", "t")))
	for i := 0; i < 20000; i++ {
		must(rows.Exec(i, fmt.Sprint("row ", i)))
	}
	must(rows.Exec())
	check(rows.Close())
	check(tx.Commit())
	var count int
	check(db.QueryRow("SELECT count(*) FROM gopher_pq").Scan(&count))
	equal(count, 20000)

	listener := pq.NewListener("sslmode=disable", time.Second, time.Second, nil)
	defer listener.Close()
	check(listener.Listen("gopher_news"))
	must(db.Exec("NOTIFY gopher_news, 'heard'"))
	select {
	case news := <-listener.Notify:
		equal(news.Extra, "heard")
	case <-time.After(10 * time.Second):
		panic("nothing heard")
	}
	check(listener.Ping())
	// One round trip for a statement with parameters, nothing prepared.
	binary := open("postgres", "binary_parameters=yes")
	defer binary.Close()
	for i := 0; i < 20; i++ {
		check(binary.QueryRow("SELECT $1::int", i).Scan(&count))
		equal(count, i)
	}
}

func pgxStatements() {
	// What pgx remembers of statements: their names, their descriptions, nothing.
	for _, mode := range []string{"statement_cache_mode=prepare", "statement_cache_mode=describe", "statement_cache_capacity=0"} {
		conns := []*pgx.Conn{}
		for i := 0; i < 8; i++ {
			conns = append(conns, connect(mode))
		}
		for i := 0; i < 20; i++ {
			for number, conn := range conns {
				var n int
				check(conn.QueryRow(ctx, fmt.Sprintf("SELECT $1::int * %d", number), i).Scan(&n))
				equal(n, i*number)
			}
		}
		for _, conn := range conns {
			_, err := conn.Exec(ctx, "SELECT 1 / $1::int", 0)
			fails(err, "22012")
			check(conn.Close(ctx))
		}
	}
	conn := connect("")
	defer conn.Close(ctx)
	must(conn.Prepare(ctx, "named", "SELECT $1::int + 1"))
	var n int
	check(conn.QueryRow(ctx, "named", 1).Scan(&n))
	equal(n, 2)
	check(conn.Deallocate(ctx, "named"))
	// The simple protocol, by request.
	check(conn.QueryRow(ctx, "SELECT $1::text || $2", pgx.QuerySimpleProtocol(true), "it's", 5).Scan(new(string)))
}

func pgxBatches() {
	conn := connect("")
	defer conn.Close(ctx)
	must(conn.Exec(ctx, "CREATE TABLE gopher_pgx (id int PRIMARY KEY, t text)"))
	batch := &pgx.Batch{}
	for i := 0; i < 200; i++ {
		batch.Queue("INSERT INTO gopher_pgx VALUES ($1, $2)", i, "row")
	}
	batch.Queue("SELECT count(*) FROM gopher_pgx")
	results := conn.SendBatch(ctx, batch)
	for i := 0; i < 200; i++ {
		must(results.Exec())
	}
	var count int
	check(results.QueryRow().Scan(&count))
	equal(count, 200)
	check(results.Close())
	// All of a batch or nothing.
	batch = &pgx.Batch{}
	batch.Queue("INSERT INTO gopher_pgx VALUES (1000, 'x')")
	batch.Queue("INSERT INTO gopher_pgx VALUES (1, 'again')")
	fails(conn.SendBatch(ctx, batch).Close(), "23505")
	check(conn.QueryRow(ctx, "SELECT count(*) FROM gopher_pgx").Scan(&count))
	equal(count, 200)

	rows := [][]any{}
	for i := 0; i < 10000; i++ {
		rows = append(rows, []any{2000 + i, "copied"})
	}
	copied := must(conn.CopyFrom(ctx, pgx.Identifier{"gopher_pgx"}, []string{"id", "t"}, pgx.CopyFromRows(rows)))
	equal(copied, int64(10000))
	_, err := conn.CopyFrom(ctx, pgx.Identifier{"gopher_pgx"}, []string{"id", "t"}, pgx.CopyFromRows([][]any{{1, "again"}}))
	fails(err, "23505")

	check(conn.BeginFunc(ctx, func(tx pgx.Tx) error {
		must(tx.Exec(ctx, "DELETE FROM gopher_pgx WHERE id = 1"))
		nested := must(tx.Begin(ctx))
		must(nested.Exec(ctx, "DELETE FROM gopher_pgx"))
		return nested.Rollback(ctx)
	}))
	check(conn.QueryRow(ctx, "SELECT count(*) FROM gopher_pgx").Scan(&count))
	equal(count, 10199)
}

func pgxPoolAndListen() {
	pool := must(pgxpool.Connect(ctx, "sslmode=disable pool_max_conns=20"))
	defer pool.Close()
	listener := must(pool.Acquire(ctx))
	must(listener.Exec(ctx, "LISTEN gopher_pool"))
	must(pool.Exec(ctx, "SELECT pg_notify('gopher_pool', $1)", "heard"))
	soon, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	equal(must(listener.Conn().WaitForNotification(soon)).Payload, "heard")
	must(listener.Exec(ctx, "UNLISTEN *"))
	listener.Release()
	short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	if _, err := pool.Exec(short, "SELECT pg_sleep(30)"); err == nil {
		panic("not cancelled")
	}
	var path string
	own := connect("search_path=of_startup application_name=gopher")
	defer own.Close(ctx)
	for i := 0; i < 20; i++ {
		check(own.QueryRow(ctx, "SELECT current_setting('search_path') || current_setting('application_name')").Scan(&path))
		equal(path, "of_startupgopher")
		check(pool.QueryRow(ctx, "SHOW search_path").Scan(&path))
		equal(path, `"$user", public`)
	}
}

func manyMarkedReads() {
	conn := connect("")
	defer conn.Close(ctx)
	var count int
	for i := 0; i < 200; i++ {
		check(conn.QueryRow(ctx, "SELECT count(*) FROM gopher_pgx AS marker_go_read WHERE id < $1", i).Scan(&count))
	}
}

func main() {
	status := 0
	for _, each := range []struct {
		name string
		run  func()
	}{
		{"database/sql with lib/pq", func() { databaseSQL("postgres") }},
		{"database/sql with pgx", func() { databaseSQL("pgx") }},
		{"pqCopyAndListen", pqCopyAndListen},
		{"pgxStatements", pgxStatements},
		{"pgxBatches", pgxBatches},
		{"pgxPoolAndListen", pgxPoolAndListen},
		{"manyMarkedReads", manyMarkedReads},
	} {
		start, verdict := time.Now(), "ok"
		func() {
			defer func() {
				if fault := recover(); fault != nil {
					fmt.Println(fault)
					fmt.Println(string(debug.Stack()))
					verdict, status = "FAILED", 1
				}
			}()
			each.run()
		}()
		fmt.Printf("  %s ... %s (%.1f s)\n", each.name, verdict, time.Since(start).Seconds())
	}
	os.Exit(status)
}
