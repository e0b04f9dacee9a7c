require 'json'
require 'pg'

# What COPY carries: with all that has to be escaped.
ROWS = Array.new(5000) { |n| [n.to_s, "row #{n}: 50 % of\tit, \\ and é"] }
TEXT = %q(it's 50 % "é")

# All of it is in PGHOST and the like.
def connect
  conn = PG.connect
  conn.set_notice_receiver {}
  yield conn
ensure
  conn&.close
end

def check(got, want)
  raise "got #{got.inspect[0, 200]}, want #{want.inspect[0, 200]}" unless got == want
end

def query
  connect do |conn|
    conn.prepare('q', 'select $1::int + $2::int, $3::text')
    check conn.exec_prepared('q', [40, 2, TEXT]).values, [['42', TEXT]]
  end
end

def transaction
  connect do |conn|
    connect do |other|
      conn.exec 'drop table if exists ruby_tx; create table ruby_tx (n int)'
      { 'rollback' => [], 'commit' => [['1']] }.each do |finish, want|
        conn.exec 'begin'
        conn.exec_params 'insert into ruby_tx values ($1)', [1]
        conn.exec finish
        check other.exec('select n from ruby_tx').values, want
      end
    end
  end
end

def copy
  connect do |conn|
    conn.exec 'create temp table copied (n int, t text)'
    conn.copy_data('copy copied from stdin', PG::TextEncoder::CopyRow.new) { ROWS.each { |row| conn.put_copy_data row } }
    check conn.exec('select n, t from copied order by n').values, ROWS
    received = []
    conn.copy_data('copy copied to stdout', PG::TextDecoder::CopyRow.new) do
      while (row = conn.get_copy_data)
        received << row.map { |text| text.force_encoding('UTF-8') }
      end
    end
    check received, ROWS
  end
end

def cancel_when_asleep(conn)
  connect do |other|
    asleep = "select count(*) from pg_stat_activity where pid = #{conn.backend_pid} and wait_event = 'PgSleep'"
    tries = 0
    until other.exec(asleep).getvalue(0, 0) == '1'
      raise 'waited in vain for the query to run' if (tries += 1) > 3000
      sleep 0.01
    end
  end
  check conn.cancel, nil # as it says when all is well
end

def cancel
  connect do |conn|
    canceler = Thread.new { cancel_when_asleep conn }
    canceler.report_on_exception = false
    begin
      conn.exec 'select pg_sleep(60)'
      raise 'the query was not canceled'
    rescue PG::QueryCanceled => e
      check e.result.error_field(PG::PG_DIAG_SQLSTATE), '57014'
    ensure
      canceler.join
    end
    check conn.exec('select 1').values, [['1']]
  end
end

results = %i[query transaction copy cancel].to_h do |step|
  send step
  [step, 'ok']
rescue StandardError => e
  [step, "#{e.class}: #{e.message}"]
end
puts JSON.generate(driver: 'Ruby pg', version: PG::VERSION, runtime: "Ruby #{RUBY_VERSION}", steps: results)
