import ArgumentParser
import BrokerService
import Bus
import Failure
import Foundation
import Runtime

@main
struct BrokerMain {
    static func main() async { await Launch.run(BrokerCommand.self, service: "broker") }
}

struct BrokerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "zoetrope-broker",
        abstract: "Keeps jobs, leases their tasks to workers and stores what must not be lost.",
        discussion: """
            Listens on ipc://RUN-DIRECTORY/broker.sock, and on TCP where --listen says so. Prints one line of JSON with \
            its endpoints when it is ready. SIGTERM stops it; started again with the same --data-directory it goes on \
            where it was.
            """,
        version: ServiceVersion.current)

    @Option(help: "TCP endpoint to listen on beside the ipc socket, such as tcp://127.0.0.1:7710; repeatable.")
    var listen: [String] = []

    @Option(help: "The broker's key file, from zoetrope keys new; TCP then needs an authorised key.")
    var key: String?

    @Option(help: "File of the keys to admit; by default authorized-keys beside the key file.")
    var authorizedKeys: String?

    @Flag(help: "Permit TCP beyond this host without a key: neither encrypted nor authenticated.")
    var insecure = false

    @Option(help: "Folder of the cluster's ipc sockets.")
    var runDirectory: String?

    @Option(help: "Folder of the ledger and the stored blobs; by default below $XDG_STATE_HOME or ~/.local/state.")
    var dataDirectory: String?

    @Option(help: "This broker's name among several; kept in the ledger, which has one of its own otherwise.")
    var cell: String?

    @Option(help: "Name of its ipc sockets, NAME.sock and NAME-data.sock, for several brokers in one run directory.")
    var socketName = "broker"

    @Option(help: "TCP port of the blob store; 0 = any free one.")
    var dataPort: UInt16 = 0

    @Option(help: "Address or name under which workers reach the blob store over TCP.")
    var advertiseHost: String?

    @Option(help: "Seconds without a beat after which a worker loses its tasks.")
    var leaseSeconds: Double = 15

    @Option(help: "Interval of the workers' beats.")
    var beatMilliseconds: UInt64 = 1000

    @Option(help: "Hours for which finished jobs and their outputs are kept.")
    var retentionHours: Double = 168

    @Option(help: "Seconds without progress after which a task whose step time is unknown is given to another worker.")
    var stallSeconds: Double = 1800

    @Option(help: "Unfinished jobs that are taken; more are refused with the time to come back.")
    var queueLimit = 10_000

    @Option(help: "Unfinished jobs of one tenant that are taken.")
    var tenantLimit = 1000

    @Option(help: "Tasks that may wait for each slot of a stage before the stage in front begins no more.")
    var backlogLimit = 4

    @OptionGroup var memory: SharedMemoryOptions

    @Option(help: "Copy the data directory into this folder, while a broker runs on it or not, and end.")
    var backup: String?

    @OptionGroup var logging: LoggingOptions

    func validate() throws {
        for (name, value) in [
            ("queue-limit", queueLimit), ("tenant-limit", tenantLimit), ("backlog-limit", backlogLimit),
        ] {
            guard (1...1_000_000).contains(value) else {
                throw ValidationError("--\(name) \(value) is not within 1 and 1000000.")
            }
        }
        guard (0.1...86_400).contains(leaseSeconds) else {
            throw ValidationError("--lease-seconds \(leaseSeconds) is not within 0.1 and 86400.")
        }
        guard beatMilliseconds > 0, Double(beatMilliseconds) * 2 <= leaseSeconds * 1000 else {
            throw ValidationError(
                "--beat-milliseconds \(beatMilliseconds) must be above 0 and at most half of --lease-seconds.")
        }
        guard !socketName.isEmpty, socketName.utf8.count <= 24,
            socketName.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") })
        else {
            throw ValidationError("--socket-name \(socketName) is not 1 to 24 letters, digits and hyphens.")
        }
        guard retentionHours > 0, retentionHours <= 1e6 else {
            throw ValidationError("--retention-hours \(retentionHours) is not within 0 and 1000000.")
        }
        guard stallSeconds > 0, stallSeconds <= 1e7 else {
            throw ValidationError("--stall-seconds \(stallSeconds) is not within 0 and 10000000.")
        }
    }

    func run() async throws {
        if let backup {
            let made = try Backup.make(of: dataDirectory ?? defaultDataDirectory(), in: backup)
            print("\(backup): \(made.jobs) jobs, \(made.blobs) new blobs of \(made.bytes) bytes")
            return
        }
        var settings = BrokerSettings(
            runDirectory: try RunDirectory.resolve(runDirectory), dataDirectory: dataDirectory ?? defaultDataDirectory()
        )
        settings.cell = cell
        settings.socketName = socketName
        settings.listen = try listen.map { try Endpoint(parsing: $0) }
        settings.isInsecurePermitted = insecure
        settings.keyFile = key
        settings.authorizedKeysFile = authorizedKeys
        settings.dataPort = dataPort
        settings.advertiseHost = advertiseHost
        settings.sharedMemoryBytes = memory.sharedMemory.bytes
        settings.leaseMilliseconds = UInt64(leaseSeconds * 1000)
        settings.beatMilliseconds = beatMilliseconds
        settings.retentionMilliseconds = UInt64(retentionHours * 3_600_000)
        settings.stallMilliseconds = UInt64(stallSeconds * 1000)
        settings.queueLimit = queueLimit
        settings.tenantLimit = tenantLimit
        settings.backlogLimit = backlogLimit
        let logger = logging.logger(service: "broker")
        let broker = Broker(settings: settings, logger: logger) { addresses in announce(addresses) }
        try await Lifecycle.run([broker, DescriptorWatch(logger: logger)], logger: logger)
    }

    private func defaultDataDirectory() -> String {
        let environment = ProcessInfo.processInfo.environment
        let state = environment["XDG_STATE_HOME"] ?? (environment["HOME"] ?? "/tmp") + "/.local/state"
        return state + "/zoetrope/broker"
    }
}

/// The one line on standard output, for whoever started this process.
private func announce(_ addresses: BrokerAddresses) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard var line = try? encoder.encode(ReadyEvent(event: "ready", service: "broker", addresses: addresses)) else {
        return
    }
    line.append(UInt8(ascii: "\n"))
    FileHandle.standardOutput.write(line)
}

private struct ReadyEvent: Encodable {
    var event: String
    var service: String
    var addresses: BrokerAddresses
}
