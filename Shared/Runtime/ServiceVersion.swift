/// The version every executable reports and every video records.
package enum ServiceVersion {
    package static let current = "0.1.0"
}
