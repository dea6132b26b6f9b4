# ruby-pg as applications use it. Runs every check, says which failed and why.

require "pg"
require "timeout"

# The connection comes from PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE.
def connected(**options)
  connection = PG.connect(**options)
  yield connection
ensure
  connection&.close
end

def equal(actual, expected)
  raise "#{actual.inspect} instead of #{expected.inspect}" unless actual == expected
end

def fails(error)
  yield
rescue error => e
  e
else
  raise "no #{error}"
end

def reads_and_writes
  connected do |conn|
    conn.exec("CREATE TABLE ruby (id int PRIMARY KEY, t text, b bytea)")
    equal conn.exec_params("INSERT INTO ruby VALUES ($1, $2, $3)", [1, "é€😀", { value: "\0\xff".b, format: 1 }]).cmd_tuples, 1
    equal conn.exec_params("SELECT t FROM ruby WHERE id = $1", [1]).getvalue(0, 0), "é€😀"
    equal conn.exec_params("SELECT b FROM ruby", [], 1).getvalue(0, 0), "\0\xff".b
    # Several statements: the result is the last one's.
    equal conn.exec("SELECT 1; SELECT 2").values, [["2"]]
    conn.type_map_for_results = PG::BasicTypeMapForResults.new(conn)
    equal conn.exec("SELECT 1.5::float8 AS f, ARRAY[1, 2] AS a, true AS t").first, { "f" => 1.5, "a" => [1, 2], "t" => true }
  end
end

def prepared_statements
  threads = 12.times.map do |number|
    Thread.new do
      connected do |conn|
        # The same name with another text on every connection.
        conn.prepare("same", "SELECT $1::int * #{number}")
        30.times { |i| equal conn.exec_prepared("same", [i]).getvalue(0, 0), (i * number).to_s }
        equal conn.describe_prepared("same").nparams, 1
        fails(PG::DuplicatePstatement) { conn.prepare("same", "SELECT 1") }
        conn.exec("DEALLOCATE same")
        fails(PG::InvalidSqlStatementName) { conn.exec_prepared("same", [1]) }
        conn.prepare("same", "SELECT 'again'")
        equal conn.exec_prepared("same").getvalue(0, 0), "again"
      end
    end
  end
  threads.each(&:join)
end

def transactions
  connected do |conn|
    conn.exec("CREATE TABLE ruby_tx (n int)")
    conn.transaction { conn.exec("INSERT INTO ruby_tx VALUES (1)") }
    fails(PG::DivisionByZero) do
      conn.transaction do
        conn.exec("INSERT INTO ruby_tx VALUES (2)")
        conn.exec("SELECT 1/0")
      end
    end
    equal conn.transaction_status, PG::PQTRANS_IDLE
    conn.exec("BEGIN; INSERT INTO ruby_tx VALUES (3); SAVEPOINT s")
    fails(PG::UndefinedColumn) { conn.exec("SELECT missing") }
    equal conn.transaction_status, PG::PQTRANS_INERROR
    conn.exec("ROLLBACK TO s; COMMIT")
    equal conn.exec("SELECT array_agg(n ORDER BY n) FROM ruby_tx").getvalue(0, 0), "{1,3}"
    conn.exec("BEGIN READ ONLY")
    fails(PG::ReadOnlySqlTransaction) { conn.exec("INSERT INTO ruby_tx VALUES (4)") }
    conn.exec("ROLLBACK")
  end
end

def single_rows
  connected do |conn|
    conn.send_query("SELECT generate_series(1, 10000)")
    conn.set_single_row_mode
    sum = 0
    conn.get_result.stream_each_row { |row| sum += row[0].to_i }
    equal sum, 50_005_000
    while conn.get_result; end
    equal conn.exec("SELECT 'next'").getvalue(0, 0), "next"
  end
end

def pipelines
  connected do |conn|
    conn.enter_pipeline_mode
    100.times { |i| conn.send_query_params("SELECT $1::int", [i]) }
    conn.send_query_params("SELECT 1 / $1::int", [0])
    conn.send_query_params("SELECT 'skipped'", [])
    conn.pipeline_sync
    100.times do |i|
      equal conn.get_result.getvalue(0, 0), i.to_s
      equal conn.get_result, nil
    end
    fails(PG::DivisionByZero) { conn.get_result.check }
    conn.get_result
    equal conn.get_result.result_status, PG::PGRES_PIPELINE_ABORTED
    conn.get_result
    equal conn.get_result.result_status, PG::PGRES_PIPELINE_SYNC
    conn.exit_pipeline_mode
    equal conn.exec("SELECT 'next'").getvalue(0, 0), "next"
  end
end

def copies
  connected do |conn|
    conn.exec("CREATE TABLE ruby_copy (n int, t text)")
    done = conn.copy_data("COPY ruby_copy FROM STDIN") { 20_000.times { |i| conn.put_copy_data("#{i}\trow #{i}\n") } }
    equal done.cmd_tuples, 20_000
    lines = []
    conn.copy_data("COPY (SELECT n FROM ruby_copy ORDER BY n LIMIT 3) TO STDOUT") do
      while (line = conn.get_copy_data)
        lines << line
      end
    end
    equal lines, ["0\n", "1\n", "2\n"]
    fails(PG::InvalidTextRepresentation) { conn.copy_data("COPY ruby_copy FROM STDIN") { conn.put_copy_data("x\ty\n") } }
    fails(RuntimeError) { conn.copy_data("COPY ruby_copy FROM STDIN") { raise "the application gives up" } }
    equal conn.exec("SELECT count(*) FROM ruby_copy").getvalue(0, 0), "20000"
  end
end

def notifications
  connected do |listener|
    connected do |teller|
      listener.exec("LISTEN ruby_news")
      teller.exec_params("SELECT pg_notify('ruby_news', $1)", ["heard"])
      heard = nil
      listener.wait_for_notify(10) { |channel, _pid, payload| heard = [channel, payload] }
      equal heard, %w[ruby_news heard]
    end
  end
end

def settings
  connected(application_name: "ruby_one", options: "-c search_path=from_options") do |one|
    connected(application_name: "ruby_two") do |two|
      two.exec("SET search_path = from_set")
      two.set_client_encoding("LATIN1")
      30.times do
        equal one.exec("SELECT current_setting('application_name'), current_setting('search_path')").values, [%w[ruby_one from_options]]
        equal two.exec("SELECT current_setting('application_name'), current_setting('search_path')").values, [%w[ruby_two from_set]]
        equal two.exec("SELECT 'é'").getvalue(0, 0).encoding, Encoding::ISO_8859_1
        equal one.exec("SELECT 'é'").getvalue(0, 0).bytes, [0xc3, 0xa9]
      end
      one.reset
      equal one.exec("SHOW search_path").getvalue(0, 0), "from_options"
    end
  end
end

def errors_and_cancelling
  connected do |conn|
    error = fails(PG::UniqueViolation) { conn.exec("INSERT INTO ruby VALUES (1)") }
    equal error.result.error_field(PG::PG_DIAG_CONSTRAINT_NAME), "ruby_pkey"
    notices = []
    conn.set_notice_processor { |notice| notices << notice }
    conn.exec("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
    equal notices.first.strip, "NOTICE:  hello"
    conn.send_query("SELECT pg_sleep(30)")
    sleep 0.3
    conn.cancel
    fails(PG::QueryCanceled) { conn.get_last_result }
    equal conn.exec("SELECT 'alive'").getvalue(0, 0), "alive"
  end
  fails(PG::ConnectionBad) { PG.connect(password: "wrong") }
end

# What Rails says of itself to a new connection (`configure_connection` of its PostgreSQL adapter), in its words.
def rails
  connected do |conn|
    conn.exec("SET client_min_messages TO 'warning'")
    conn.exec("SET standard_conforming_strings = on")
    conn.exec("SET intervalstyle = iso_8601")
    conn.exec("SET SESSION timezone TO 'UTC'")
    yield conn
  end
end

RAILS_LOCK = 2_053_462_845 * 4_157_512_623

# Several processes that start at once migrate the database (`with_advisory_lock` of ActiveRecord::Migrator): one does, the others
# are refused; what is not in a transaction (`disable_ddl_transaction!`) belongs to the same lock.
def rails_migrations
  rails { |conn| conn.exec('CREATE TABLE schema_migrations (version character varying NOT NULL PRIMARY KEY)') }
  log = Queue.new
  migrators = 4.times.map do |number|
    Thread.new do
      rails do |conn|
        sleep 0.01 until conn.exec("SELECT pg_try_advisory_lock(#{RAILS_LOCK})").getvalue(0, 0) == "t"
        log << [number, :begins]
        # Read by a statement prepared under Rails' names.
        conn.prepare("a1", "SELECT version FROM schema_migrations WHERE version > $1 ORDER BY version")
        done = conn.exec_prepared("a1", ["0"]).column_values(0)
        (%w[1 2 3] - done).each do |version|
          conn.exec("BEGIN")
          conn.exec("CREATE TABLE ruby_migrated_#{version} (id bigserial PRIMARY KEY, n int)")
          conn.exec_params("INSERT INTO schema_migrations VALUES ($1) RETURNING version", [version])
          conn.exec("COMMIT")
        end
        conn.exec("CREATE INDEX CONCURRENTLY IF NOT EXISTS ruby_migrated_n ON ruby_migrated_1 (n)")
        log << [number, :ends]
        # False where it is not the session that took the lock; Rails raises ConcurrentMigrationError then.
        equal conn.exec("SELECT pg_advisory_unlock(#{RAILS_LOCK})").getvalue(0, 0), "t"
        # An error within a migration leaves the lock to be given back.
        equal conn.exec("SELECT pg_try_advisory_lock(#{number})").getvalue(0, 0), "t"
        conn.exec("BEGIN")
        fails(PG::DuplicateTable) { conn.exec("CREATE TABLE ruby_migrated_1 (id int)") }
        conn.exec("ROLLBACK")
        equal conn.exec("SELECT pg_advisory_unlock(#{number})").getvalue(0, 0), "t"
      end
    end
  end
  migrators.each(&:join)
  steps = Array.new(log.size) { log.pop }
  steps.each_slice(2) { |one, other| equal [one[1], other], [:begins, [one[0], :ends]] }
  equal steps.size, 8
  connected { |conn| equal conn.exec("SELECT count(*) FROM schema_migrations").getvalue(0, 0), "3" }
end

def many_marked_reads
  connected do |conn|
    200.times { |i| conn.exec_params("SELECT count(*) FROM ruby_copy AS marker_ruby_read WHERE n < $1", [i]) }
  end
end

failed = 0
%i[reads_and_writes prepared_statements transactions single_rows pipelines copies notifications settings
   errors_and_cancelling rails_migrations many_marked_reads].each do |check|
  start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  verdict = "ok"
  begin
    Timeout.timeout(60) { send(check) }
  rescue Exception => e
    puts e.full_message(highlight: false)
    verdict = "FAILED"
    failed += 1
  end
  puts format("  %s ... %s (%.1f s)", check, verdict, Process.clock_gettime(Process::CLOCK_MONOTONIC) - start)
end
exit(failed.zero?)
