import Failure

extension JobStatus {
    /// Whether the status alone goes into one control frame.
    private var fitsOneFrame: Bool { StatusPage(jobs: [self], hasMore: false).fitsOneFrame }

    /// The status, made to fit one control frame: notes go first (they are for people), then every output keeps its
    /// first two locations. What remains is bounded by `Limits` to less than 64 KiB.
    package func fittingOneFrame() -> JobStatus {
        if fitsOneFrame { return self }
        var result = self
        for index in result.tasks.indices {
            result.tasks[index].notes = result.tasks[index].notes.prefix(1).map { String($0.prefix(100)) }
        }
        if result.fitsOneFrame { return result }
        for index in result.tasks.indices { result.tasks[index].notes = [] }
        for index in result.outputs.indices {
            result.outputs[index].ref.locations = Array(result.outputs[index].ref.locations.prefix(2))
        }
        return result
    }
}

extension StatusPage {
    fileprivate var fitsOneFrame: Bool {
        let session = SessionID.random()
        let envelope = Envelope(
            session: session, sequence: .max, brokerEpoch: .max, inReplyTo: .max, trace: "", message: .status(self))
        do throws(Failure) {
            // 256 bytes stay free for a trace and for the prelude of the caller's own envelope.
            return try EnvelopeCodec.encode(envelope).count <= Limits.controlFrameBytes - 256
        } catch {
            return false
        }
    }

    /// The longest beginning of the page that fits one control frame; `hasMore` is set when something was left off.
    package func fittingOneFrame() -> StatusPage {
        var page = StatusPage(jobs: jobs.prefix(Limits.jobsPerPage).map { $0.fittingOneFrame() }, hasMore: hasMore)
        if page.jobs.count < jobs.count { page.hasMore = true }
        while page.jobs.count > 1, !page.fitsOneFrame {
            page.jobs.removeLast()
            page.hasMore = true
        }
        return page
    }
}
