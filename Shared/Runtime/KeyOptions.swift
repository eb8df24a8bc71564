package import ArgumentParser

/// The flags with which a process presents itself to a broker that has keys.
package struct KeyOptions: ParsableArguments {
    @Option(help: "This process's key file, from zoetrope keys new; TCP is encrypted and authenticated then.")
    package var key: String?

    @Option(
        help: "The broker's public key, or the NAME.pub file that holds it; with several brokers once for each.")
    package var brokerPublicKey: [String] = []

    package init() {}
}
