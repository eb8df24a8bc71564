// What the broker keeps in memory beside its records.
extension BrokerState {
    /// How many entries each volatile table holds. With every job over, `tasks` and `watches` are 0.
    package struct Footprint: Sendable, Hashable {
        /// Leases, retry times, refusals in a row, costs, followers, preemptions and deadlines of unfinished jobs.
        package var tasks: Int
        /// Watching sessions of all jobs, and jobs with an event that is still to be sent.
        package var watches: Int
        package var workers: Int
        /// Blobs without a reference that wait for their removal, and releases that workers have yet to hear of.
        package var blobs: Int
        /// Jobs whose revision has risen in this epoch; at most the jobs on record.
        package var revisions: Int
    }

    package var footprint: Footprint {
        Footprint(
            tasks: leases.count + notBefore.count + refusals.count + costs.count + preemptions.count
                + deadlines.count + followers.count,
            watches: watchers.values.reduce(0) { $0 + $1.count } + changed.count + progressed.count + lastPushAt.count,
            workers: workers.count, blobs: orphans.count + workers.values.reduce(0) { $0 + $1.releases.count },
            revisions: revisions.count)
    }

    /// Whether the index is what the records and the deadlines say: it is kept up to date job by job, and everything that
    /// looks for work trusts it.
    package var isIndexInStep: Bool { index == makeIndex() }

    func makeIndex() -> WorkIndex {
        var index = WorkIndex()
        for id in records.unfinished {
            index.update(id, records.jobs[id], pressingDeadline: pressingDeadline(of: id))
        }
        return index
    }
}
