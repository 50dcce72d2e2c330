//! A database beside the services: a real PostgreSQL, and a service in Python that keeps its rows there.
//!
//! The folder of its data outlives its instances and versions, and no two of them have it at a time. On a
//! machine that cannot have a PostgreSQL this says so.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serin_tests::report::skip;
use serin_tests::wait::until;
use serin_tests::{Serin, place, process};

use super::{SOON, becomes, instances, write, write_python};

/// PostgreSQL makes its folder once, and names it only when it is whole.
const DATABASE: &str = r#"
set -e
umask 077
if [ ! -d "$SERIN_DATA/rows" ]; then
  rm -rf "$SERIN_DATA/new"
  initdb --no-sync --username shop --auth trust --encoding UTF8 --pgdata "$SERIN_DATA/new"
  mv "$SERIN_DATA/new" "$SERIN_DATA/rows"
fi
exec postgres -D "$SERIN_DATA/rows" -h 127.0.0.1 -p "$DB_PORT" -k '' -c log_line_prefix=
"#;

/// Ends where the database is not there when it starts; later it connects again.
const ORDERS: &str = r#"
import http.server, os
import psycopg

def connect():
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)

db = connect()
db.execute("CREATE TABLE IF NOT EXISTS orders (id serial, item text)")

class Orders(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(lambda: ",".join(item for (item,) in db.execute("SELECT item FROM orders ORDER BY id")))

    def do_POST(self):
        item = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.answer(lambda: db.execute("INSERT INTO orders (item) VALUES (%s)", [item]).statusmessage)

    def answer(self, work):
        global db
        try:
            if db.closed:
                db = connect()
            status, text = 200, work()
        except psycopg.OperationalError as error:
            status, text = 503, str(error)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Orders).serve_forever()
"#;

/// A Serin with both services in its folder, not started yet.
struct Shop {
    serin: Serin,
    port: u16,
}

impl Shop {
    fn prepared(dir: &Path, postgres: &place::Postgres) -> Result<Shop> {
        let mut serin = Serin::prepared(dir)?;
        serin.set("PATH", &postgres.path);
        serin.write("serin.yaml", "deploy: {on_start: true}\n")?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        write(&serin, "db", &database(port, &format!("port: {port}")))?;
        serin.write("services/db/start.sh", DATABASE)?;
        let more = format!(
            "port: auto\nweb: /orders\ninstances: 1\nafter: db\nenv:\n  PYTHONPATH: {}\n  \
             DATABASE_URL: postgres://shop@127.0.0.1:{port}/postgres\n",
            postgres.driver.display()
        );
        write_python(&serin, "orders", &more, ORDERS)?;
        Ok(Shop { serin, port })
    }

    async fn order(&self, item: &'static str) -> Result<()> {
        let url = format!("{}/orders", self.serin.gateway());
        let answer = reqwest::Client::new().post(url).body(item).send().await?;
        ensure!(answer.status() == 200, "{}", answer.text().await?);
        Ok(())
    }

    /// Waits until these are the orders.
    async fn has(&self, orders: &str) -> Result<()> {
        let url = format!("{}/orders", self.serin.gateway());
        until(&format!("the orders are {orders}"), SOON, async || {
            let text = reqwest::get(&url).await?.text().await?;
            ensure!(text == orders, "{text}");
            Ok(Some(()))
        })
        .await
    }

    /// The process of the only instance of a service that is ready.
    async fn pid(&self, service: &str) -> Result<u32> {
        let what = format!("one instance of {service} is ready");
        until(&what, SOON, async || {
            let ready = instances(&self.serin, service, "ready").await?;
            let mut pids = ready.into_iter().map(|(_, pid)| pid);
            Ok(pids.next().filter(|_| pids.next().is_none()))
        })
        .await
    }

    /// How often the database began without having been shut down before, once it said so many times that
    /// it had begun. A Serin that is killed loses the lines it has just read.
    async fn recoveries(&self, starts: i64) -> Result<i64> {
        let said = async |words: &str| {
            let asked = format!(
                "SELECT count(*) FROM logs WHERE service = 'db' AND message LIKE '%{words}%'"
            );
            self.serin.sql_number(&asked).await
        };
        let what = format!("{starts} starts of the database are in the logs");
        until(&what, SOON, async || {
            let told = said("is ready to accept connections").await?;
            ensure!(told == starts, "{told} are");
            Ok(Some(()))
        })
        .await?;
        said("was not properly shut down").await
    }
}

fn database(port: u16, more: &str) -> String {
    format!(
        "run: sh start.sh\ninstances: 1\n{more}\nstop_signal: SIGINT\nenv: {{DB_PORT: {port}}}\n\
         ready: {{run: pg_isready -q -h 127.0.0.1 -p {port} -U shop -d postgres}}\n"
    )
}

#[tokio::test]
async fn a_service_waits_for_its_database_which_keeps_its_rows() -> Result<()> {
    let postgres = match place::postgres() {
        Ok(postgres) => postgres,
        Err(why) => return skip("a database beside services", &why),
    };
    let folder = place::fresh_folder()?;
    let mut shop = Shop::prepared(folder.path(), &postgres)?;
    shop.serin.start_again().await?;
    becomes(&shop.serin, "orders", "serving").await?;
    let db = shop.serin.get("/api/v1/services/db").await?;
    let orders = shop.serin.get("/api/v1/services/orders").await?;
    let served_us = db["versions"][0]["since_us"].as_i64().context("served")?;
    let first = &orders["instances"][0];
    let started_us = first["started_us"].as_i64().context("started")?;
    assert!(
        started_us >= served_us && first["name"] == "orders-v1-1",
        "{db:#}\n{orders:#}"
    );
    shop.order("tea").await?;
    let asking = shop.pid("orders").await?;

    // Killed: it comes back with its rows, and who asks it stays.
    let killed = shop.pid("db").await?;
    process::kill(killed)?;
    until("another database is ready", SOON, async || {
        Ok((shop.pid("db").await? != killed).then_some(()))
    })
    .await?;
    shop.has("tea").await?;
    assert_eq!(shop.pid("orders").await?, asking);
    shop.order("cake").await?;

    // Another version begins once the one before has let go of rows, port and sessions.
    let start = format!("{DATABASE}# again\n");
    shop.serin.write("services/db/start.sh", &start)?;
    shop.serin.run(&["deploy", "db"]).await?;
    shop.has("tea,cake").await?;
    assert_eq!(shop.pid("orders").await?, asking);

    // The end leaves nothing, and the next start has it all.
    let serving = shop.pid("db").await?;
    shop.serin.run(&["down"]).await?;
    assert!(!process::is_running(serving) && !process::is_running(asking));
    let lock = shop.serin.dir().join(".serin/kept/db/rows/postmaster.pid");
    assert!(!lock.exists(), "{}", fs::read_to_string(&lock)?);
    shop.serin.start_again().await?;
    shop.has("tea,cake").await?;
    let orders = shop.serin.get("/api/v1/services/orders").await?;
    let all = orders["instances"].as_array().context("instances")?;
    assert_eq!(all.len(), 1, "it started too early: {orders:#}");
    // Only where it was killed: deploys and ends give it its time.
    assert_eq!(shop.recoveries(4).await?, 1);

    // Serin's own death is nothing to either.
    let (serving, asking) = (shop.pid("db").await?, shop.pid("orders").await?);
    shop.serin.kill()?;
    shop.serin.start_again().await?;
    assert_eq!(shop.pid("db").await?, serving);
    assert_eq!(shop.pid("orders").await?, asking);
    shop.has("tea,cake").await?;
    Ok(())
}

#[tokio::test]
async fn a_database_without_a_port_that_serin_knows_runs_alone() -> Result<()> {
    let postgres = match place::postgres() {
        Ok(postgres) => postgres,
        Err(why) => return skip("a database that runs alone", &why),
    };
    let folder = place::fresh_folder()?;
    let mut shop = Shop::prepared(folder.path(), &postgres)?;
    write(&shop.serin, "db", &database(shop.port, "alone: true"))?;
    shop.serin.start_again().await?;
    becomes(&shop.serin, "orders", "serving").await?;
    shop.order("tea").await?;
    let start = format!("{DATABASE}# again\n");
    shop.serin.write("services/db/start.sh", &start)?;
    shop.serin.run(&["deploy", "db"]).await?;
    shop.has("tea").await?;
    assert_eq!(shop.recoveries(2).await?, 0);

    // One that does not start gives its place back.
    shop.serin.write("services/db/start.sh", "exit 7\n")?;
    let said = shop.serin.refused(&["deploy", "db"]).await?;
    assert!(said.contains("v2 is started again"), "{said}");
    becomes(&shop.serin, "db", "serving").await?;
    shop.has("tea").await?;
    assert_eq!(shop.recoveries(3).await?, 0);
    Ok(())
}
