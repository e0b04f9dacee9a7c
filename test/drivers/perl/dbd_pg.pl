use strict;
use warnings;
use utf8;

use DBI;
use DBD::Pg ':async';
use JSON::PP;
use Time::HiRes 'sleep';

my $text = q(it's 50 % "é");

# All of it is in PGHOST and the like.
sub connection { DBI->connect('dbi:Pg:', undef, undef, { RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoCommit => 1 }) }

sub check {
    my ($got, $want) = map { encode_json($_) } @_;
    die sprintf("got %.200s, want %.200s\n", $got, $want) if $got ne $want;
}

sub query {
    my $prepared = connection()->prepare('select ?::int + ?::int, ?::text', { pg_server_prepare => 1 });
    $prepared->execute(40, 2, $text);
    check($prepared->fetchall_arrayref, [[42, $text]]);
}

sub transaction {
    my ($conn, $other) = (connection(), connection());
    $conn->do('set client_min_messages = error; drop table if exists perl_tx; create table perl_tx (n int)');
    for (['rollback', []], ['commit', [1]]) {
        my ($end, $want) = @$_;
        $conn->begin_work;
        $conn->do('insert into perl_tx values (?)', undef, 1);
        $conn->$end;
        check($other->selectcol_arrayref('select n from perl_tx'), $want);
    }
}

sub copy {
    my $conn = connection();
    # With all that has to be escaped.
    my @sent = map { "$_\trow $_: 50 % of\\tit, \\\\ and é\n" } 0 .. 4999;
    $conn->do('create temp table copied (n int, t text)');
    $conn->do('copy copied from stdin');
    $conn->pg_putcopydata($_) for @sent;
    $conn->pg_putcopyend;
    my $copied = q(select count(*), count(distinct n), bool_and(t = format(e'row %s: 50 %% of\tit, \\\\ and é', n))::int from copied);
    check($conn->selectrow_arrayref($copied), [5000, 5000, 1]);
    $conn->do('copy copied to stdout');
    my (@received, $line);
    push @received, $line while $conn->pg_getcopydata($line) >= 0;
    check(\@received, \@sent);
}

sub cancel {
    my ($conn, $other) = (connection(), connection());
    $conn->do('select pg_sleep(60)', { pg_async => PG_ASYNC });
    my $asleep = "select count(*) from pg_stat_activity where pid = ? and wait_event = 'PgSleep'";
    my $tries = 0;
    until ($other->selectrow_array($asleep, undef, $conn->{pg_pid})) {
        die "waited in vain for the query to run\n" if ++$tries > 3000;
        sleep 0.01;
    }
    # True if the server then said 57014, and nothing else.
    $conn->pg_cancel or die "the query was not canceled\n";
    check($conn->selectrow_arrayref('select 1'), [1]);
}

my %results;
for my $step (qw(query transaction copy cancel)) {
    no strict 'refs';
    $results{$step} = eval { &$step(); 1 } ? 'ok' : "$@" || 'failed';
}
print encode_json({ driver => 'Perl DBD::Pg', version => "$DBD::Pg::VERSION", runtime => sprintf('Perl %vd', $^V), steps => \%results }), "\n";
