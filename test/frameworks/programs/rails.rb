# Tests Active Record with config/database.yml.
require 'active_record'
require 'json'
require 'yaml'

def check(got, want)
  raise "got #{got}, want #{want}" unless got == want
end

class Visit < ActiveRecord::Base
end

ActiveRecord::Base.establish_connection(YAML.load_file('database.yml')['production'])
check ActiveRecord::Base.connection.select_value('select current_user'), 'app'
Visit.where(id: 1).delete_all
Visit.transaction do
  Visit.create!(id: 1)
  raise ActiveRecord::Rollback
end
check Visit.where(id: 1).count, 0
Visit.transaction { Visit.create!(id: 1) }
check Visit.where(id: 1).count, 1
pids = Array.new(4) do
  Thread.new do
    ActiveRecord::Base.connection_pool.with_connection { |c| c.select_value('select pg_backend_pid() from pg_sleep(0.2)') }
  end
end.map(&:value)
check pids.uniq.size, 4
puts JSON.generate(framework: 'Rails (Active Record)', version: ActiveRecord.version.to_s, driver: "pg #{PG::VERSION}")
