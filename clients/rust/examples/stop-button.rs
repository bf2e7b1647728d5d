//! A stop button: a story is told until Enter is pressed, or for two seconds, and then the cord is
//! pulled. Takes the address of a server, such as `pullcord serve` brings up without arguments.

use std::io::{IsTerminal, Write, stdin, stdout};
use std::time::Duration;

use pullcord::v1::{CancelCause, CancelOutcome, CancelRunResponse};
use pullcord::{CancelRunRequest, DEFAULT_TARGET, Payload, PullcordError, RunClient, RunSpec};
use tokio::sync::oneshot;

#[tokio::main]
async fn main() -> Result<(), PullcordError> {
    let target = std::env::args().nth(1).unwrap_or(DEFAULT_TARGET.into());
    let mut story = RunClient::new(target)?.run(RunSpec {
        runnable: "agents/storyteller".into(),
        input: "a lighthouse that hums".into(),
        ..Default::default()
    });
    let stop = stop_button();
    tokio::pin!(stop);
    let mut receipt = None;
    loop {
        tokio::select! {
            event = story.next() => match event.transpose()?.and_then(|event| event.payload) {
                Some(Payload::ContentDelta(delta)) => {
                    print!("{}", delta.text);
                    stdout().flush().ok();
                }
                Some(_) => {}
                None => break,
            },
            () = &mut stop, if receipt.is_none() => {
                receipt = Some(story.cancel_with(CancelRunRequest {
                    reason: "the reader pressed stop".into(),
                    wait: Some(pullcord::prost_types::Duration { seconds: 5, nanos: 0 }),
                    ..Default::default()
                }).await?);
            }
        }
    }
    println!("\n");
    match story.result() {
        Some(Payload::RunCancelled(end)) => {
            println!("kept       {} characters", end.output.chars().count());
        }
        end => println!("It had ended by itself: {end:?}"),
    }
    if let Some(receipt) = receipt {
        print_receipt(&receipt);
    }
    Ok(())
}

/// Is ready when Enter is pressed; where nobody can, after two seconds.
async fn stop_button() {
    if !stdin().is_terminal() {
        return tokio::time::sleep(Duration::from_secs(2)).await;
    }
    println!("[Enter stops the story]\n");
    let (pressed, button) = oneshot::channel();
    std::thread::spawn(move || {
        stdin().read_line(&mut String::new()).ok();
        pressed.send(()).ok();
    });
    button.await.ok();
}

fn print_receipt(receipt: &CancelRunResponse) {
    println!("outcome    {}", receipt.outcome().as_str_name());
    let run = receipt.run.clone().unwrap_or_default();
    if let Some(stop) = run.cancellation {
        let cause = CancelCause::try_from(stop.cause).unwrap_or_default();
        println!("cause      {}", cause.as_str_name());
        println!("by         {}", stop.actor);
        println!("reason     {}", stop.reason);
    }
    let times = [
        ("accepted", receipt.accept_time),
        ("delivered", receipt.deliver_time),
        ("stopped", receipt.stop_time),
    ];
    for (what, time) in times {
        if let Some(time) = time {
            println!("{what:<10} {time}");
        }
    }
    if receipt.outcome() == CancelOutcome::AlreadyFinished {
        println!("The button was too late; nothing was changed.");
    }
}
