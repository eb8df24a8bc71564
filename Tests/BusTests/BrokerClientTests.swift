import Bus
import Failure
import Runtime
import Tensor
import Testing
import Wire

/// Answers a `BrokerClient` from a script, one closure call a message.
private func serve(
    _ server: ControlServer, _ answer: @escaping @Sendable (Message) -> [Message]
) -> Task<Void, Never> {
    Task {
        for await (peer, envelope) in server.incoming {
            for reply in answer(envelope.message) { await server.send(reply, to: peer, inReplyTo: envelope.sequence) }
        }
    }
}

private func status(_ job: String, _ state: JobState, revision: UInt64) -> JobStatus {
    JobStatus(
        job: job, state: state, revision: revision, createdUnixMilliseconds: 1, specification: "{}", tasks: [])
}

@Suite(.timeLimit(.minutes(1))) struct BrokerClientTests {
    @Test("each call asks its question and returns the answer")
    func calls() async throws {
        try await Cell.run { cell in
            let store = try BlobStore(directory: "\(cell.runDirectory.path)/store")
            let data = DataServer(loop: cell.loop, session: .random(), source: store, sink: store)
            let location = try #require(
                try await data.bind(cell.ipc("data.sock"), insecure: false).location(in: cell.runDirectory))
            let server = ControlServer(loop: cell.loop, session: .random(), epoch: 1)
            let endpoint = try await server.bind(cell.ipc("broker.sock"), insecure: false)
            let serving = serve(server) { message in
                switch message {
                case .clientHello:
                    [.welcome(Welcome(beatMilliseconds: 1, leaseMilliseconds: 2, storeLocations: [location]))]
                case .submit(let submit): [.accepted(Accepted(job: submit.idempotencyKey, replayed: false))]
                case .query(let query) where query.job.isEmpty:
                    [.status(StatusPage(jobs: [status("j-2", .done, revision: 1)], hasMore: query.before == "j-3"))]
                case .query(let query) where query.job == "gone": [.status(StatusPage(jobs: [], hasMore: false))]
                case .query(let query):
                    [.status(StatusPage(jobs: [status(query.job, .running, revision: 1)], hasMore: false))]
                case .cancel(let job): [.cancelOutcome(CancelOutcome(job: job, state: .cancelled))]
                case .clusterQuery: [.cluster(ClusterStatus(workers: [], queuedJobs: 3, runningJobs: 1))]
                default: []
                }
            }
            let broker = try await BrokerClient(loop: cell.loop, endpoint: endpoint, runDirectory: cell.runDirectory)
            let submit = Submit(
                idempotencyKey: "key", requestDigest: Digest.of([]), tenant: "", priority: 0, specification: "{}",
                tasks: [])
            #expect(try await broker.submit(submit) == Accepted(job: "key", replayed: false))
            #expect(try await broker.status(job: "j-1").state == .running)
            await expectFailure("job_not_found") { try await broker.status(job: "gone") }
            let page = try await broker.list(before: "j-3", limit: 5)
            #expect(page.jobs.map(\.job) == ["j-2"] && page.hasMore)
            #expect(try await broker.cancel(job: "j-1").state == .cancelled)
            #expect(try await broker.cluster().queuedJobs == 3)
            let tensor = Tensor([1, 2, 3], shape: [3])
            let ref = try await broker.upload(tensor)
            #expect(bytes(try await broker.download(ref)) == bytes(tensor))
            await broker.close()
            await expectFailure("bus_closed") { try await broker.cluster() }
            serving.cancel()
        }
    }

    @Test("a watch follows a job through a restart of the broker to its terminal state")
    func watch() async throws {
        try await Cell.run { cell in
            let welcome = Message.welcome(Welcome(beatMilliseconds: 1, leaseMilliseconds: 2, storeLocations: []))
            let endpoint = cell.ipc("broker.sock")
            let first = ControlServer(loop: cell.loop, session: .random(), epoch: 1)
            _ = try await first.bind(endpoint, insecure: false)
            let serving = serve(first) { message in
                switch message {
                case .clientHello: [welcome]
                case .watch(let watch) where watch.job == "j": [.event(status("j", .running, revision: 5))]
                case .watch: [.error(ErrorReply(code: "job_not_found", message: "no such job"))]
                default: []
                }
            }
            let broker = try await BrokerClient(loop: cell.loop, endpoint: endpoint, runDirectory: cell.runDirectory)
            await expectFailure("job_not_found") { for try await _ in broker.watch(job: "other") {} }
            var events = broker.watch(job: "j").makeAsyncIterator()
            #expect(try await events.next()?.revision == 5)
            await first.close()
            await serving.value

            let second = ControlServer(loop: cell.loop, session: .random(), epoch: 2)
            _ = try await second.bind(endpoint, insecure: false)
            let servingAgain = serve(second) { message in
                switch message {
                case .clientHello: [welcome]
                case .watch:
                    [.event(status("j", .running, revision: 6)), .event(status("j", .done, revision: 7))]
                default: []
                }
            }
            #expect(try await events.next()?.revision == 6)
            #expect(try await events.next()?.state == .done)
            #expect(try await events.next() == nil)
            servingAgain.cancel()
        }
    }

    @Test("a broker that is not there is reported as unreachable")
    func unreachable() async throws {
        try await Cell.run { cell in
            await expectFailure("broker_unreachable") {
                try await BrokerClient(
                    loop: cell.loop, endpoint: cell.ipc("nobody.sock"), runDirectory: cell.runDirectory,
                    timeout: .milliseconds(50))
            }
        }
    }
}
