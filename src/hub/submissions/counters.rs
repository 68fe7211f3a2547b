//! What is counted of transactions of clients.

use crate::hub::count::counters;

counters! {
    /// What is counted, as totals since the start.
    SubmissionCounters:
    /// Announcements of transactions not known here.
    announced;
    /// Announcements of transactions here, or with a verdict.
    announced_known;
    /// Announcements a client had made before.
    announced_again;
    /// Announcements forgotten because the transaction has `announcers` of them, or half of them of one host.
    excess_announcers;
    /// Announcements forgotten because their host has `announcements` of them.
    excess_announcements;
    /// Announcements forgotten because `wanted` transactions are followed, and no host has announced more of them.
    wanted_full;
    /// Announcements given up for another host's, because there was no room and their host had the most.
    announcements_displaced;
    /// Clients asked.
    asked;
    /// Of these, that did not have it.
    not_found;
    /// Of these, that did not answer in time.
    ask_timeouts;
    /// Transactions no announcer delivered.
    never_received;
    /// Transactions taken into our hands.
    received;
    /// Received although here.
    duplicate;
    /// Received although refused lately.
    recently_refused;
    /// Received and dropped because nodes relay none so heavy.
    too_heavy;
    /// Received and dropped because too many wait.
    full;
    /// Given to a node.
    submitted;
    /// Given to another node, too.
    handed_on;
    /// Put back because every link they were submitted over was lost before a verdict.
    put_back;
    /// Refused because the node left right after it, several times over.
    costs_links;
    /// Accepted by a node.
    accepted;
    /// Accepted after having counted as refused.
    accepted_late;
    /// Refused: the node said so.
    rejected;
    /// Refused: no verdict in time.
    no_verdict;
    /// Refused: no node in time.
    no_node;
    /// Given up for another host's, because there was no room and their host held the most.
    displaced;
    /// Charged to their hosts as refused before there was a verdict, because the node does not have what it was given.
    doubted;
}
