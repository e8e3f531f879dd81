//! The library with real processes: shells, five releases of Node, and this binary itself.

/// Makes a test of an `async fn(major: &str)` for each supported Node, named in the closing matrix.
macro_rules! on_each_node {
    ($($name:ident: $feature:literal,)*) => {$(
        mod $name {
            on_each_node! { @ $name $feature
                node_18 "18", node_20 "20", node_22 "22", node_24 "24", node_26 "26"
            }
        }
    )*};
    (@ $name:ident $feature:literal $($test:ident $major:literal),*) => {$(
        #[test]
        fn $test() {
            $crate::support::run(super::$name($major));
            $crate::support::passed($feature, $major);
        }
    )*};
}

mod channel;
mod cluster;
mod golden;
mod guard;
mod handle;
mod messenger;
mod pitfalls;
mod process;
mod support;
mod tidy;
