//! `breakwater ctl`: each call of the admin interface as a subcommand. Tables for people, the server's JSON with `--json`.
//!
//! It knows nothing of the relay but its admin interface: what may be is decided there.
//!
//! - `args`: what a person types, and the request it makes
//! - `targets`: clients that are meant
//! - `client`: HTTP over a Unix socket or TCP
//! - `table`, `show`: answers as people read them

pub(super) mod args;
pub(super) mod client;
pub(super) mod show;
mod table;
mod targets;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::Failure;
use args::{Call, Request};
use client::{Client, Endpoint};

/// Where the relay is, and what is asked of it.
#[derive(Args, Debug)]
pub(super) struct CtlArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print the server's JSON, a line an answer.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    call: Call,
}

/// Where the relay's admin interface is.
#[derive(Args, Debug)]
#[command(next_help_heading = "The relay's admin interface")]
pub(super) struct PlaceArgs {
    /// Its Unix socket [default: /var/lib/breakwater/NETWORK/admin.sock].
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
    /// The chain in the default path of the socket.
    #[arg(long, value_name = "NAME", global = true, default_value = "mainnet")]
    chain: String,
    /// Its address over TCP, http://HOST:PORT.
    #[arg(long, value_name = "URL", global = true)]
    url: Option<String>,
    /// File with the token, for TCP.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
}

impl PlaceArgs {
    /// Reads the token, if there is one.
    pub(super) fn endpoint(&self) -> Result<Endpoint, Failure> {
        let token = self.token_file.as_deref().map(|path| {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::Other(format!("--token-file {}: {error}", path.display())))?;
            Ok::<_, Failure>(text.trim().to_owned())
        });
        let token = token.transpose()?;
        match (&self.url, &self.socket) {
            // Before and behind the call: clap sees no conflict there.
            (Some(_), Some(_)) => Err(Failure::Usage("--socket and --url: expected one of them".into())),
            (Some(url), None) => Endpoint::tcp(url, token).map_err(Failure::Usage),
            (None, Some(path)) => Ok(Endpoint::Unix(path.clone())),
            (None, None) => {
                Ok(Endpoint::Unix(PathBuf::from(format!("/var/lib/breakwater/{}/admin.sock", self.chain))))
            }
        }
    }
}

/// Does one call.
pub(super) fn ctl(args: CtlArgs) -> Result<(), Failure> {
    let client = Client::new(args.place.endpoint()?);
    let request = args.call.request().map_err(Failure::Usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Other(format!("no runtime: {error}")))?;
    runtime.block_on(async {
        match request {
            Request::Events(path) => follow(&client, &path, args.json).await,
            Request::AllClients(path) => all_clients(&client, &path, args.json).await,
            Request::Once { method, path, body } => {
                let answer = client.call(method, &path, body.as_ref()).await?;
                let text = match (args.json, serde_json::from_str::<Value>(&answer)) {
                    (true, _) | (false, Err(_)) => answer,
                    (false, Ok(value)) => show::show(&args.call, &value),
                };
                print(&text)
            }
        }
    })
}

/// Page for page, so that a million clients need no memory here.
async fn all_clients(client: &Client, path: &str, json: bool) -> Result<(), Failure> {
    let join = if path.contains('?') { '&' } else { '?' };
    let mut after: Option<String> = None;
    let mut table = show::clients();
    loop {
        let page = after.as_ref().map_or(path.to_owned(), |after| format!("{path}{join}after={after}"));
        let answer = client.call("GET", &page, None).await?;
        let value: Value = serde_json::from_str(&answer)
            .map_err(|error| Failure::Other(format!("the answer is no JSON: {error}")))?;
        match json {
            true => print(&answer)?,
            false => print(&table.page(&show::client_rows(&value)))?,
        }
        let next = value["next"].as_str().map(str::to_owned);
        if next.is_none() || next == after {
            return Ok(());
        }
        after = next;
    }
}

/// Events until the relay ends, or whoever reads them.
async fn follow(client: &Client, path: &str, json: bool) -> Result<(), Failure> {
    let mut events = client.events(path).await?;
    while let Some((name, data)) = events.next().await? {
        if name == "lagged" {
            return Err(Failure::Other(data));
        }
        let value = serde_json::from_str::<Value>(&data).unwrap_or(Value::Null);
        print(&if json { data } else { show::event(&value) })?;
    }
    Ok(())
}

/// A text on standard output. Whoever read it (`ctl clients | head`) may have seen enough.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let mut out = std::io::stdout();
    match out.write_all(format!("{text}{end}").as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::Other(format!("standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}
