//! The doors close though somebody holds an answer or a request open.

use super::*;

/// Far less than the deadline of [`serve`], far more than a close takes.
const SOON: Duration = Duration::from_secs(20);

async fn closes(server: Server) {
    tokio::time::timeout(SOON, server.doors.close())
        .await
        .expect("closed in time");
}

#[tokio::test]
async fn a_streamed_answer_ends_when_the_doors_close() {
    let server = serve().await;
    let request = server
        .client
        .post(server.url(&format!("/api/v1/open?name={ENDLESS}")))
        .bearer_auth(TOKEN);
    let mut answer = request.body("x").send().await.expect("an answer");
    let first = answer.chunk().await.expect("whole").expect("a line");
    assert!(first.starts_with(b"{\"stage\":\"import\""), "{first:?}");
    let (rest, ()) = tokio::join!(answer.text(), closes(server));
    assert_eq!(rest.expect("it ended in order"), "");
}

#[tokio::test]
async fn an_upload_ends_when_the_doors_close() {
    let server = serve().await;
    let mut stream = begin(&server, "/api/v1/open?name=a.csv").await;
    let mut rest = String::new();
    let (read, ()) = tokio::join!(stream.read_to_string(&mut rest), closes(server));
    read.expect("it ended in order");
    assert!(rest.contains("503") && rest.contains("stopping"), "{rest}");
}

#[tokio::test]
async fn a_request_that_does_not_finish_is_cut_off() {
    let server = serve_closing(Duration::from_millis(1)).await;
    let mut stream = begin(&server, "/api/v1/events").await;
    let mut rest = Vec::new();
    let (read, ()) = tokio::join!(stream.read_to_end(&mut rest), closes(server));
    // However the connection ended, nothing was answered.
    drop(read);
    assert!(rest.is_empty(), "{rest:?}");
}

/// A request whose body the server waits for.
async fn begin(server: &Server, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.expect("connected");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 100\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    let mut told = vec![0; go_on.len()];
    stream.read_exact(&mut told).await.expect("it wants more");
    assert_eq!(told, go_on.as_bytes());
    stream
}
