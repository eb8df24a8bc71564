package import Failure
import Foundation
import Glibc

/// Keeps the processes of a `ClusterPlan` alive: starts them, starts again what dies, stops them all at the end.
package actor ClusterSupervisor {
    /// Deaths of one member within `window` after which it is left dead and the cluster counts as broken.
    private static let restartLimit = 5
    private static let window = Duration.seconds(30)
    private static let stopGrace = Duration.seconds(10)

    private struct End {
        var processID: Int32
        var how: String

        var arguments: [String] { ["--predecessor-process", String(processID), "--predecessor-end", how] }
    }

    private let plan: ClusterPlan
    /// Folder for one log file a member; nil passes the children's stderr through.
    private let logFolder: String?
    private let notice: @Sendable (String) -> Void
    private var processes: [String: Process] = [:]
    private var deaths: [String: [ContinuousClock.Instant]] = [:]
    /// How each worker's last process ended, for its successor to tell the broker.
    private var ends: [String: End] = [:]
    private var isStopping = false
    private var breakdown: Failure?

    package init(plan: ClusterPlan, logFolder: String?, notice: @escaping @Sendable (String) -> Void) {
        self.plan = plan
        self.logFolder = logFolder
        self.notice = notice
    }

    /// Starts every member and waits until the gateway reports every worker.
    ///
    /// - Throws: `executable_missing`, `cluster_start_failed` with the log of the member that died.
    package func start(timeout: Duration) async throws(Failure) {
        for member in plan.members { try launch(member) }
        let client = try GatewayClient(server: plan.server)
        let deadline = ContinuousClock.now + timeout
        var missing = "the gateway does not answer"
        while ContinuousClock.now < deadline {
            if let breakdown { throw breakdown }
            do throws(Failure) {
                let present = try await client.workers()
                let absent = plan.workerCounts.filter { (present[$0.key] ?? 0) < $0.value }
                guard !absent.isEmpty else { return }
                missing = absent.map { "\($0.key) \(present[$0.key] ?? 0) of \($0.value)" }.sorted().joined(
                    separator: ", ")
            } catch {
                missing = error.message
            }
            try? await Task.sleep(for: .milliseconds(20))
        }
        throw Failure(
            "cluster_start_failed", "not ready after \(timeout): \(missing)",
            remedy: logFolder.map { "Read the logs in \($0)." } ?? "Read the messages above.")
    }

    /// The failure that made the supervisor give up on a member, if one did.
    package var failure: Failure? { breakdown }

    /// Process ids by member name, for people and tests.
    package var processIDs: [String: Int32] { processes.mapValues(\.processIdentifier) }

    /// SIGTERM to the workers, then to gateway and broker, so that every worker can still say goodbye; SIGKILL to
    /// whatever is there after ten seconds.
    package func stop() async {
        isStopping = true
        let front = Set(plan.members.filter { !$0.isWorker }.map(\.name))
        await end(processes.filter { !front.contains($0.key) }.map(\.value))
        await end(processes.filter { front.contains($0.key) }.map(\.value))
    }

    private func end(_ members: [Process]) async {
        for process in members where process.isRunning { process.terminate() }
        let deadline = ContinuousClock.now + Self.stopGrace
        while members.contains(where: \.isRunning), ContinuousClock.now < deadline {
            try? await Task.sleep(for: .milliseconds(5))
        }
        for process in members where process.isRunning { kill(process.processIdentifier, SIGKILL) }
    }

    private func launch(_ member: ClusterPlan.Member) throws(Failure) {
        let path = try Self.executablePath(member.executable)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = member.arguments + (ends[member.name]?.arguments ?? [])
        process.environment = ProcessInfo.processInfo.environment.merging(
            ["ZOETROPE_SUPERVISOR_PID": String(getpid())]) { _, new in new }
        process.standardInput = FileHandle.nullDevice
        if let log = logFile(of: member.name) {
            process.standardError = log
            process.standardOutput = log
        }
        let name = member.name
        process.terminationHandler = { [weak self] ended in
            let status = ended.terminationStatus
            let signalled = ended.terminationReason == .uncaughtSignal
            let processID = ended.processIdentifier
            Task { await self?.memberEnded(name, processID, status: status, signalled: signalled) }
        }
        do {
            try process.run()
        } catch {
            throw Failure("cluster_start_failed", "cannot start \(path): \(error)", field: member.name)
        }
        processes[member.name] = process
    }

    private func memberEnded(_ name: String, _ processID: Int32, status: Int32, signalled: Bool) {
        guard !isStopping, let member = plan.members.first(where: { $0.name == name }) else { return }
        guard signalled || status != 0 || !member.isWorker else {
            notice("\(name) was drained and has left; it is not started again")
            return
        }
        let how = signalled ? "was killed by signal \(status)" : "ended with status \(status)"
        if member.isWorker {
            ends[name] = End(processID: processID, how: signalled ? "signal \(status)" : "status \(status)")
        }
        let now = ContinuousClock.now
        let recent = (deaths[name] ?? []).filter { now - $0 < Self.window } + [now]
        deaths[name] = recent
        guard recent.count < Self.restartLimit else {
            breakdown = Failure(
                "worker_keeps_dying", "\(name) \(how), the \(recent.count)th time in half a minute. \(logTail(name))",
                field: name)
            return
        }
        notice("\(name) \(how); starting it again")
        do {
            try launch(member)
        } catch {
            breakdown = error
        }
    }

    private func logFile(of name: String) -> FileHandle? {
        guard let logFolder else { return nil }
        let path = "\(logFolder)/\(name).log"
        try? FileManager.default.createDirectory(atPath: logFolder, withIntermediateDirectories: true)
        if !FileManager.default.fileExists(atPath: path) {
            _ = FileManager.default.createFile(atPath: path, contents: nil)
        }
        let handle = FileHandle(forWritingAtPath: path)
        handle?.seekToEndOfFile()
        return handle
    }

    private func logTail(_ name: String) -> String {
        guard let logFolder, let text = try? String(contentsOfFile: "\(logFolder)/\(name).log", encoding: .utf8) else {
            return ""
        }
        return "Its last words:\n" + text.split(separator: "\n").suffix(8).joined(separator: "\n")
    }

    /// The executable beside this one.
    package static func executablePath(_ name: String) throws(Failure) -> String {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        let path = URL(fileURLWithPath: own).deletingLastPathComponent().appending(path: name).path
        guard FileManager.default.isExecutableFile(atPath: path) else {
            throw Failure(
                "executable_missing", "\(path) is not there", field: name,
                remedy: "Build everything with `make build`, and keep the executables in one folder.")
        }
        return path
    }

    /// A TCP port nobody listens on now.
    package static func freePort() throws(Failure) -> Int {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                bind(descriptor, generic, length) == 0 ? getsockname(descriptor, generic, &length) : -1
            }
        }
        guard descriptor >= 0, result == 0 else {
            throw Failure("no_free_port", "cannot find a free TCP port: \(String(cString: strerror(errno)))")
        }
        return Int(UInt16(bigEndian: address.sin_port))
    }
}
