//! The connection for calls: made at the first call or when a service begins, on its runtime.
//!
//! It lives on the runtime that calls, so that a message wakes no other thread; it is apart from the
//! events' connection, so that a flood of these does not delay a call. When its runtime ended, the
//! next call makes another.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Event, Subscriber};
use futures::StreamExt;
use serin_wire::subject;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::call::post::{ANSWERED_WITHIN, Line, Post};
use crate::call::routes::Routing;
use crate::connect::connect;
use crate::dropped::Reason;
use crate::shared::Shared;

/// A round of asking for routes at a new connection ends by then.
const ROUTES_WITHIN: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) post: Arc<Post>,
    pub(crate) routing: Arc<Routing>,
    /// Whether routes were asked for on the first connection.
    has_asked: watch::Receiver<bool>,
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 3],
}

impl Link {
    /// Connects in the background.
    pub(crate) async fn open(shared: &Arc<Shared>) -> Result<Link, async_nats::Error> {
        let (line, line_watched) = watch::channel(Line::default());
        let counting = Arc::clone(shared);
        let client = connect(&shared.options, move |event| match event {
            Event::Connected => line.send_modify(|line| {
                line.is_up = true;
                line.connection += 1;
                line.found_again = (line.connection > 1).then(Instant::now);
            }),
            Event::Disconnected | Event::Closed => line.send_modify(|line| line.is_up = false),
            Event::SlowConsumer(_) => {
                counting.queue.dropped.count(Reason::CallFull);
            }
            _ => {}
        });
        let client = client.await?;
        let post = Arc::new(Post::new(client.clone(), line_watched));
        let routing = Arc::new(Routing::default());
        let answers = client.subscribe(post.inbox()).await?;
        let told = client.subscribe(subject::ROUTES).await?;
        let (asked, has_asked) = watch::channel(false);
        let delivering = tokio::spawn(deliver(Arc::clone(&post), answers));
        let following = follow(Arc::clone(&post), Arc::clone(&routing), told, asked);
        let telling = tell_unanswered(Arc::clone(&post), Arc::clone(shared));
        Ok(Link {
            post,
            routing,
            has_asked,
            shared: Arc::clone(shared),
            tasks: [delivering, tokio::spawn(following), tokio::spawn(telling)],
        })
    }

    /// Whether its runtime ended, and it with it.
    pub(crate) fn is_dead(&self) -> bool {
        self.tasks.iter().any(JoinHandle::is_finished)
    }

    /// Tells the calls that nobody answered so far: the process ends.
    pub(crate) fn tell_now(&self) {
        for row in self.post.unanswered(Instant::now()) {
            self.shared.tell_request(&row);
        }
    }

    /// Returns once the routes are known, or known not to be told, or it is too late to wait.
    pub(crate) async fn know_routes(&self, until: Instant) {
        if *self.has_asked.borrow() {
            return;
        }
        let mut has_asked = self.has_asked.clone();
        let asked = tokio::time::timeout_at(until, has_asked.wait_for(|asked| *asked));
        if asked.await.is_err() {
            tracing::debug!("called before the routes were known");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // They only wait for messages; there is nothing to finish, and a drop cannot wait.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn deliver(post: Arc<Post>, mut answers: Subscriber) {
    while let Some(answer) = answers.next().await {
        post.deliver(answer);
    }
}

/// Tells the calls that nobody answered, also not a moment after their time.
async fn tell_unanswered(post: Arc<Post>, shared: Arc<Shared>) {
    loop {
        post.has_unanswered.notified().await;
        let since = Instant::now();
        tokio::time::sleep(ANSWERED_WITHIN).await;
        for row in post.unanswered(since) {
            shared.tell_request(&row);
        }
    }
}

/// Asks for the routes at each new connection, and takes those that are told.
async fn follow(
    post: Arc<Post>,
    routing: Arc<Routing>,
    mut told: Subscriber,
    asked: watch::Sender<bool>,
) {
    let mut line = post.line.clone();
    loop {
        let Ok(now) = line.wait_for(|line| line.is_up).await.map(|line| *line) else {
            return;
        };
        routing
            .ask(&post, true, Instant::now() + ROUTES_WITHIN)
            .await;
        asked.send_replace(true);
        let mut is_same = true;
        while is_same {
            tokio::select! {
                message = told.next() => match message {
                    Some(message) => routing.take(&message.payload),
                    None => return,
                },
                changed = line.changed() => match changed {
                    Ok(()) => is_same = *line.borrow() == now,
                    Err(_) => return,
                },
            }
        }
    }
}
