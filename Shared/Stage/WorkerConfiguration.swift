package import Bus
package import Runtime

/// Where a worker connects, what it announces and what it may use.
package struct WorkerConfiguration: Sendable {
    /// For people: `denoiser@host:4711`.
    package var name: String
    /// The brokers that it serves, each one cell; at least one.
    package var brokers: [BrokerAddress]
    /// Where this host's sockets lie.
    package var runDirectory: RunDirectory
    /// Tasks computed at the same time.
    package var slots: Int
    /// Address other machines reach this worker at; nil finds the one that faces the broker.
    package var advertisedAddress: String?
    /// TCP port of the data plane; nil serves ipc only, 0 takes any free one.
    package var dataPort: UInt16?
    /// Whether TCP beyond loopback is allowed although it is neither encrypted nor authenticated.
    package var insecure: Bool
    /// Bytes of outputs kept for consumers to fetch (frames); the oldest give way.
    package var outputBytes: Int
    /// Bytes of memory shared with consumers on this host; 0 = none is shared, nor looked into.
    package var sharedMemoryBytes: Int
    /// How long a stopping worker waits for its computation to reach the next step.
    package var shutdownGrace: Duration
    /// The process that had this worker's name before and how it ended; 0 when its supervisor told nothing.
    package var predecessor: (processID: UInt32, end: String) = (0, "")

    /// A worker of one slot on ipc and of one broker, unless told otherwise.
    ///
    /// - Parameter credentials: this worker's key and the broker's; nil = ipc, or TCP without protection.
    package init(
        name: String, broker: Endpoint, runDirectory: RunDirectory, slots: Int = 1, advertisedAddress: String? = nil,
        dataPort: UInt16? = nil, insecure: Bool = false, credentials: Credentials? = nil, outputBytes: Int = 1 << 30,
        sharedMemoryBytes: Int = SharedMemorySize.standard.bytes, shutdownGrace: Duration = .seconds(20)
    ) {
        self.init(
            name: name, brokers: [BrokerAddress(endpoint: broker, credentials: credentials)],
            runDirectory: runDirectory, slots: slots, advertisedAddress: advertisedAddress, dataPort: dataPort,
            insecure: insecure, outputBytes: outputBytes, sharedMemoryBytes: sharedMemoryBytes,
            shutdownGrace: shutdownGrace)
    }

    /// - Parameter brokers: at least one.
    package init(
        name: String, brokers: [BrokerAddress], runDirectory: RunDirectory, slots: Int = 1,
        advertisedAddress: String? = nil, dataPort: UInt16? = nil, insecure: Bool = false, outputBytes: Int = 1 << 30,
        sharedMemoryBytes: Int = SharedMemorySize.standard.bytes, shutdownGrace: Duration = .seconds(20)
    ) {
        precondition(!brokers.isEmpty, "a worker serves a broker")
        self.sharedMemoryBytes = sharedMemoryBytes
        self.name = name
        self.brokers = brokers
        self.runDirectory = runDirectory
        self.slots = slots
        self.advertisedAddress = advertisedAddress
        self.dataPort = dataPort
        self.insecure = insecure
        self.outputBytes = outputBytes
        self.shutdownGrace = shutdownGrace
    }
}
