//! Lines that are encrypted.

use pullcord::{ClientOptions, PullcordError, Run, RunClient};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, Server, ServerTlsConfig};

use crate::server::{Fake, Reply};

#[tokio::test]
async fn tls_takes_a_certificate_and_refuses_an_unknown_one() {
    let run = Run {
        run_id: "r".into(),
        ..Run::default()
    };
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = own.cert.pem();
    let identity = Identity::from_pem(&certificate, own.signing_key.serialize_pem());
    let tls = ServerTlsConfig::new().identity(identity);
    let server = Server::builder().tls_config(tls).unwrap();
    let server = Fake::serve(server, [Reply::Run(run)]).await;
    let trusting = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&certificate));
    let target = format!("localhost:{}", server.address.port());
    for (target, tls) in [
        (format!("https://{target}"), None), // by the machine's own certificates
        (target, Some(trusting)),
    ] {
        let is_trusted = tls.is_some();
        let options = ClientOptions {
            target,
            tls,
            ..ClientOptions::default()
        };
        let answer = RunClient::with_options(options).unwrap().get("r").await;
        match answer {
            Ok(run) => assert!(is_trusted && run.run_id == "r"),
            Err(error) => assert!(
                !is_trusted && matches!(error, PullcordError::ConnectionLost { .. }),
                "{error}"
            ),
        }
    }
}
