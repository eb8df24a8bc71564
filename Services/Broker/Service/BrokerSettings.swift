package import Bus
import Failure
package import Runtime

/// What a broker is told at start.
package struct BrokerSettings: Sendable {
    /// Where its ipc sockets are made.
    package var runDirectory: RunDirectory
    /// Ledger and blobs; the broker is this folder.
    package var dataDirectory: String
    /// This broker's name among several; nil = the one its ledger has.
    package var cell: String?
    /// Begins the names of its ipc sockets, which must differ where brokers share a run directory.
    package var socketName = "broker"
    /// TCP endpoints beside the ipc socket.
    package var listen: [Endpoint] = []
    /// Permits TCP beyond this host without keys: neither encrypted nor authenticated.
    package var isInsecurePermitted = false
    /// Port of the blob store over TCP; 0 = any free one. Unused without `listen`.
    package var dataPort: UInt16 = 0
    /// Numeric address or name under which workers reach the blob store over TCP; nil = taken from `listen`.
    package var advertiseHost: String?
    /// The broker's key file; puts TCP behind CURVE.
    package var keyFile: String?
    /// Whom the broker admits; nil = `authorized-keys` beside the key file.
    package var authorizedKeysFile: String?
    /// Bytes of memory shared with processes on this host that fetch from the store; 0 = none.
    package var sharedMemoryBytes = SharedMemorySize.standard.bytes
    package var leaseMilliseconds: UInt64 = 15_000
    package var beatMilliseconds: UInt64 = 1000
    package var retentionMilliseconds: UInt64 = 168 * 3_600_000
    package var stallMilliseconds: UInt64 = 30 * 60_000
    /// Unfinished jobs that are taken, in all and of one tenant.
    package var queueLimit = 10_000
    package var tenantLimit = 1000
    /// Tasks that may wait at a stage for each of its slots before the stage in front begins no more.
    package var backlogLimit = 4

    package init(runDirectory: RunDirectory, dataDirectory: String) {
        self.runDirectory = runDirectory
        self.dataDirectory = dataDirectory
    }

    /// The file of authorised keys, where there are keys.
    package var authorizedKeysPath: String? {
        guard let keyFile else { return nil }
        if let authorizedKeysFile { return authorizedKeysFile }
        guard let slash = keyFile.lastIndex(of: "/") else { return "authorized-keys" }
        return keyFile[...slash] + "authorized-keys"
    }

    /// The ipc endpoint that workers and clients on this host use.
    package var localEndpoint: Endpoint { .ipc(path: runDirectory.socketPath("\(socketName).sock")) }
}

/// Where a started broker is to be found.
package struct BrokerAddresses: Sendable, Hashable, Encodable {
    /// Control endpoints with their actual ports, the ipc one first.
    package var control: [String]
    /// Blob store endpoints.
    package var data: [String]
    package var epoch: UInt64
    /// The broker's name among several.
    package var cell: String
}
