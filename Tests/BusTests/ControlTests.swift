import Bus
import CZeroMQ
import Failure
import Glibc
import Runtime
import Testing
import Wire

@Suite(.timeLimit(.minutes(1))) struct ControlTests {
    private let session = SessionID.random()

    private func server(_ cell: Cell, epoch: UInt64 = 1) -> ControlServer {
        ControlServer(loop: cell.loop, session: .random(), epoch: epoch)
    }

    @Test(
        "a message and its answer cross an ipc socket, a TCP socket and an IPv6 one", arguments: ["ipc", "tcp", "tcp6"])
    func roundTrip(transport: String) async throws {
        try await Cell.run { cell in
            let server = server(cell, epoch: 9)
            let wanted: Endpoint =
                switch transport {
                case "ipc": cell.ipc("broker.sock")
                case "tcp": anyTCPPort
                default: .tcp(host: "::1", port: 0)
                }
            let endpoint = try await server.bind(wanted, insecure: false)
            if case .tcp(_, let port) = endpoint { #expect(port != 0) }
            let client = try ControlClient(loop: cell.loop, endpoint: endpoint, session: session)
            var events = client.events.makeAsyncIterator()
            #expect(try await next(&events) == .connected)

            let sequence = try #require(await client.send(.cancel(job: "j-1")))
            var incoming = server.incoming.makeAsyncIterator()
            let (peer, request) = try await next(&incoming)
            #expect(
                request.message == .cancel(job: "j-1") && request.sequence == sequence && request.session == session)
            let outcome = Message.cancelOutcome(CancelOutcome(job: "j-1", state: .cancelled))
            #expect(await server.send(outcome, to: peer, inReplyTo: sequence))
            guard case .received(let reply) = try await next(&events) else { throw Failure("no_reply", "") }
            #expect(reply.message == outcome && reply.inReplyTo == sequence && reply.brokerEpoch == 9)

            await client.setBrokerEpoch(9)
            await client.send(.goodbye)
            #expect(try await next(&incoming).1.brokerEpoch == 9)
        }
    }

    @Test("a thousand messages arrive in the order they were sent")
    func ordered() async throws {
        try await Cell.run { cell in
            let server = server(cell)
            let client = try ControlClient(
                loop: cell.loop, endpoint: try await server.bind(anyTCPPort, insecure: false), session: session)
            var events = client.events.makeAsyncIterator()
            _ = try await next(&events)
            var incoming = server.incoming.makeAsyncIterator()
            for start in stride(from: 0, to: 1000, by: 100) {
                for number in start..<(start + 100) {
                    #expect(await client.send(.cancel(job: "\(number)")) != nil)
                }
                for number in start..<(start + 100) {
                    #expect(try await next(&incoming).1.message == .cancel(job: "\(number)"))
                }
            }
        }
    }

    @Test("a request waits for a broker that is not there yet and survives its restart")
    func reconnects() async throws {
        try await Cell.run { cell in
            let endpoint = cell.ipc("broker.sock")
            let client = try ControlClient(loop: cell.loop, endpoint: endpoint, session: session)
            #expect(await client.send(.clientHello) == nil)
            async let answer = client.request(.cancel(job: "j"), timeout: .seconds(20))

            let first = server(cell)
            _ = try await first.bind(endpoint, insecure: false)
            var incoming = first.incoming.makeAsyncIterator()
            // The first broker takes the request and dies before it answers.
            #expect(try await next(&incoming).1.message == .cancel(job: "j"))
            await first.close()
            #expect(await incoming.next() == nil)

            let second = server(cell, epoch: 2)
            _ = try await second.bind(endpoint, insecure: false)
            var later = second.incoming.makeAsyncIterator()
            let (peer, again) = try await next(&later)
            #expect(again.message == .cancel(job: "j"))
            await second.send(
                .cancelOutcome(CancelOutcome(job: "j", state: .done)), to: peer, inReplyTo: again.sequence)
            #expect(try await answer == .cancelOutcome(CancelOutcome(job: "j", state: .done)))
            var events = client.events.makeAsyncIterator()
            #expect(try await next(&events) == .connected)
            #expect(try await next(&events) == .disconnected)
            #expect(try await next(&events) == .connected)
        }
    }

    @Test("a request that nobody answers fails after its timeout, one answered with an error fails with it")
    func requestFailures() async throws {
        try await Cell.run { cell in
            let lonely = try ControlClient(loop: cell.loop, endpoint: cell.ipc("nobody.sock"), session: session)
            await expectFailure("broker_unreachable") {
                try await lonely.request(.clientHello, timeout: .milliseconds(60))
            }
            let server = server(cell)
            let endpoint = try await server.bind(cell.ipc("broker.sock"), insecure: false)
            let client = try ControlClient(loop: cell.loop, endpoint: endpoint, session: session)
            let answer = Task { try await client.request(.query(Query(job: "j-9")), timeout: .seconds(20)) }
            var incoming = server.incoming.makeAsyncIterator()
            let (peer, request) = try await next(&incoming)
            let error = ErrorReply(code: "job_not_found", message: "there is no job j-9")
            await server.send(.error(error), to: peer, inReplyTo: request.sequence)
            await expectFailure("job_not_found") { try await answer.value }

            let abandoned = Task { try await client.request(.clientHello, timeout: .seconds(20)) }
            _ = try await next(&incoming)
            await client.close()
            await expectFailure("bus_closed") { try await abandoned.value }
        }
    }

    @Test("a cancelled request ends at once")
    func cancelledRequest() async throws {
        try await Cell.run { cell in
            let client = try ControlClient(loop: cell.loop, endpoint: cell.ipc("nobody.sock"), session: session)
            let waiting = Task { try await client.request(.clientHello, timeout: .seconds(50)) }
            waiting.cancel()
            await expectFailure("cancelled") { try await waiting.value }
        }
    }

    @Test("strangers who send junk are answered with an error, ignored after three strikes, and harm nobody")
    func strangers() async throws {
        try await Cell.run { cell in
            let server = server(cell)
            let endpoint = try await server.bind(cell.ipc("broker.sock"), insecure: false)
            let stranger = try BarePeer(ZMQ_DEALER, connect: endpoint.description)
            let assign = try EnvelopeCodec.encode(envelope(.needHello))
            for junk in [[Array("hello".utf8)], [[1], [2], [3], [4], [5], [6]], [assign]] { stranger.send(junk) }
            var codes: [String] = []
            for _ in 0..<3 {
                guard case .error(let error) = try await EnvelopeCodec.decode(stranger.receive()[0]).message else {
                    continue
                }
                codes.append(error.code)
            }
            #expect(codes == ["bad_magic", "extra_frames", "unexpected"])
            // Even a well-formed message is not listened to now.
            stranger.send([try EnvelopeCodec.encode(envelope(.clientHello))])

            let client = try ControlClient(loop: cell.loop, endpoint: endpoint, session: session)
            var events = client.events.makeAsyncIterator()
            _ = try await next(&events)
            await client.send(.goodbye)
            var incoming = server.incoming.makeAsyncIterator()
            #expect(try await next(&incoming).1.message == .goodbye)
            #expect(await server.counters.protocolErrors == 3)
            #expect(await server.counters.received == 1)
        }
    }

    @Test("sending to a peer that has left says so, and a message over the limits becomes an error answer")
    func unsendable() async throws {
        try await Cell.run { cell in
            let server = server(cell)
            let endpoint = try await server.bind(anyTCPPort, insecure: false)
            let client = try ControlClient(loop: cell.loop, endpoint: endpoint, session: session)
            let answer = Task { try await client.request(.cancel(job: "j"), timeout: .seconds(20)) }
            var incoming = server.incoming.makeAsyncIterator()
            let (peer, request) = try await next(&incoming)
            let huge = Message.cancel(job: String(repeating: "x", count: 1000))
            #expect(await !server.send(huge, to: peer, inReplyTo: request.sequence))
            await expectFailure("too_large") { try await answer.value }
            await client.close()
            while await server.send(.needHello, to: peer) { await Task.yield() }
            #expect(await server.counters.unsent > 0)
        }
    }

    @Test("an address that other hosts reach is bound only when that was allowed")
    func insecureBinding() async throws {
        try await Cell.run { cell in
            let server = server(cell)
            await expectFailure("insecure_endpoint") {
                try await server.bind(.tcp(host: "0.0.0.0", port: 0), insecure: false)
            }
            let open = try await server.bind(.tcp(host: "0.0.0.0", port: 0), insecure: true)
            #expect(open.location(in: cell.runDirectory) == nil)
            #expect(open.location(in: cell.runDirectory, advertising: "10.1.2.3") != nil)
        }
    }

    @Test("a stale socket file is replaced, a living server's is not, another file never")
    func socketFiles() async throws {
        try await Cell.run { cell in
            let endpoint = cell.ipc("broker.sock")
            guard case .ipc(let path) = endpoint else { return }
            let stale = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
            let bound = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(stale, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            #expect(bound == 0)
            close(stale)
            let first = server(cell)
            _ = try await first.bind(endpoint, insecure: false)
            await expectFailure("endpoint_in_use") { try await server(cell).bind(endpoint, insecure: false) }
            await first.close()
            close(open(cell.runDirectory.socketPath("file"), O_CREAT | O_WRONLY, 0o600))
            await expectFailure("endpoint_unusable") {
                try await server(cell).bind(cell.ipc("file"), insecure: false)
            }
            let long = Endpoint.ipc(path: "/tmp/" + String(repeating: "x", count: 110))
            await expectFailure("bad_endpoint") { try await server(cell).bind(long, insecure: false) }
        }
    }

    @Test("shutting the loop down ends every stream and fails what comes later")
    func shutdown() async throws {
        try await Cell.run { cell in
            let server = server(cell)
            let endpoint = try await server.bind(cell.ipc("broker.sock"), insecure: false)
            let client = try ControlClient(loop: cell.loop, endpoint: endpoint, session: session)
            var events = client.events.makeAsyncIterator()
            _ = try await next(&events)
            await cell.loop.shutdown()
            await cell.loop.shutdown()
            var incoming = server.incoming.makeAsyncIterator()
            #expect(await incoming.next() == nil)
            #expect(await client.send(.goodbye) == nil)
            await expectFailure("bus_closed") { try await client.request(.clientHello, timeout: .seconds(9)) }
            await expectFailure("bus_closed") { try await server.bind(cell.ipc("again.sock"), insecure: false) }
            await expectFailure("bus_closed") {
                try ControlClient(loop: cell.loop, endpoint: endpoint, session: session)
            }
            #expect(access(cell.runDirectory.socketPath("broker.sock"), F_OK) != 0)
        }
    }
}

/// Alone in its suite and run alone: it counts the descriptors of the whole process.
@Suite(.timeLimit(.minutes(1))) struct LeakTests {
    @Test("a hundred loops leave no thread and no eventfd behind")
    func loops() async throws {
        func threads() -> Int {
            var names = 0
            guard let folder = opendir("/proc/self/task") else { return 0 }
            defer { closedir(folder) }
            while let entry = readdir(folder) {
                let id = withUnsafeBytes(of: &entry.pointee.d_name) {
                    String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                }
                var buffer = [UInt8](repeating: 0, count: 32)
                let file = open("/proc/self/task/\(id)/comm", O_RDONLY)
                guard file >= 0 else { continue }
                let count = read(file, &buffer, 31)
                close(file)
                if String(decoding: buffer.prefix(max(count, 0)), as: UTF8.self).hasPrefix("leak-test") { names += 1 }
            }
            return names
        }
        for _ in 0..<100 {
            let loop = try BusLoop(name: "leak-test")
            let server = ControlServer(loop: loop, session: .random(), epoch: 1)
            _ = try await server.bind(anyTCPPort, insecure: false)
            await loop.shutdown()
        }
        // The threads end a moment after their loops are gone.
        while threads() > 0 { await Task.yield() }
        #expect(threads() == 0)
    }
}
