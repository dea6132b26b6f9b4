//! Much data through one connection, read and thrown away, or made on the fly.

use std::io::{BufRead as _, Write as _};
use std::time::Instant;

use crate::{Failure, Options, report, wire};

/// The text of one row.
const ROW: usize = 1000;

/// `--what select|copy-out|copy-in` of `--mb` megabytes.
pub(crate) fn bulk(options: &Options) -> Result<(), Failure> {
    let rows = options.number::<usize>("mb", Some(500))? * 1_000_000 / ROW;
    let mut stream = wire::connect(options)?;
    let select = format!("SELECT repeat('x', {ROW}) FROM generate_series(1, {rows})");
    let what = options.text("what")?;
    let request = match what {
        "select" => select,
        "copy-out" => format!("COPY ({select}) TO STDOUT"),
        // The server reads every row and keeps none: its disk is not what is measured.
        "copy-in" => "COPY bulk FROM STDIN WHERE false".to_owned(),
        other => return Err(format!("{other}: select, copy-out or copy-in").into()),
    };
    report(r#"{"started":true}"#)?;
    let start = Instant::now();
    stream.write_all(&wire::query(&request))?;
    if what == "copy-in" {
        let row = wire::message(b'd', &[&[b'x'; ROW][..], b"\n"].concat());
        let batch = row.repeat(64);
        for _ in 0..rows / 64 {
            stream.write_all(&batch)?;
        }
        for _ in 0..rows % 64 {
            stream.write_all(&row)?;
        }
        stream.write_all(&wire::message(b'c', b""))?;
    }
    let answer = wire::read_answer(&mut stream, &mut vec![0; 256 << 10])?;
    if answer.failed {
        return Err("the statement failed".into());
    }
    let seconds = start.elapsed().as_secs_f64();
    report(&format!(r#"{{"bytes":{},"seconds":{seconds}}}"#, rows * ROW))?;
    // The connection stays until the counters are read: a process of its own would be gone with it.
    let _ = std::io::stdin().lock().lines().next();
    Ok(())
}
