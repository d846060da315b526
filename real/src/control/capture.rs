//! `cyphonic capture`: a node's stream of pcapng into a file that only its owner can read.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::client::{lost, understand};
use super::{Answer, Question};
use crate::error::{Code, Failure};
use crate::files;

/// Captures until `time` is over, or until the user or the node ends it. Returns the bytes written. `-` is standard
/// output.
pub async fn capture(socket: &Path, file: &Path, time: Option<Duration>, rebuild: bool) -> Result<u64, Failure> {
    let lost = |error: std::io::Error| lost(socket, &error);
    let mut stream = UnixStream::connect(socket).await.map_err(lost)?;
    let mut line = serde_json::to_string(&Question::Capture { rebuild }).map_err(Failure::other)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).await.map_err(lost)?;
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut answer = String::new();
    reader.read_line(&mut answer).await.map_err(lost)?;
    match understand(&answer)? {
        Answer::Capturing => {}
        Answer::Error { code, what, remedy } => return Err(Failure::new(code, what, remedy)),
        _ => return Err(super::client::unexpected()),
    }
    let mut out: Box<dyn Write> =
        if file == Path::new("-") { Box::new(std::io::stdout()) } else { Box::new(files::create_secret(file)?) };
    let written = |error: std::io::Error| {
        Failure::new(Code::Other, format!("{}: {error}", file.display()), "is there room on the disk?")
    };
    let over = async {
        match time {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let interrupt = tokio::signal::ctrl_c();
    let (mut over, mut interrupt) = (std::pin::pin!(over), std::pin::pin!(interrupt));
    let mut ending = false;
    let mut bytes = 0;
    let mut piece = vec![0; 1 << 16];
    loop {
        tokio::select! {
            read = reader.read(&mut piece) => match read.map_err(lost)? {
                0 => break,
                length => {
                    out.write_all(&piece[..length]).map_err(written)?;
                    bytes += length as u64;
                }
            },
            // The node ends after a whole block.
            () = &mut over, if !ending => {
                ending = true;
                writer.shutdown().await.map_err(lost)?;
            }
            _ = &mut interrupt, if !ending => {
                ending = true;
                writer.shutdown().await.map_err(lost)?;
            }
        }
    }
    out.flush().map_err(written)?;
    Ok(bytes)
}
