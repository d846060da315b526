//! Tables of what happens only under `policy = "optimal"`: a relay beside a direct attempt, and a direct tunnel in its
//! place.

use super::{Case, check};

#[test]
fn the_relay_is_asked_for_after_the_head_start_and_the_first_tunnel_that_is_up_carries() {
    check(
        Case::new(true),
        "
        0    | registered                             |                                  |
        0    | query bob                              | tell wanted; request bob any #0  | bob asks any#0 holds
        40   | direction #0 bob dials direct any      | build t0                         | bob builds t0 relay@540 holds
        540  | timeout                                | request bob relayed #1           | bob builds t0 asks relayed#1 holds
        580  | direction #1 bob dials relayed relayed | build t1                         | bob builds t0 t1r holds
        700  | up t1                                  | tell up; answer 198.18.0.10      | bob up t1r improve@1200 builds t0
        900  | up t0                                  | tell up                          | bob up t0 replaced t1r@5900
        950  | packet bob                             | send t0?                         | bob up t0 replaced t1r@5900
        1000 | arrived t1                             | deliver 198.18.0.10              | bob up t0 replaced t1r@6000
        6000 | timeout                                | forget t1                        | bob up t0
        ",
    );
}

#[test]
fn the_pause_between_direct_attempts_doubles_until_a_survey_gives_reason_for_hope() {
    check(
        Case::new(true),
        "
        0    | registered                             |                                  |
        0    | query bob                              | tell wanted; request bob any #0  | bob asks any#0 holds
        40   | direction #0 bob dials relayed any     | build t0                         | bob builds t0r holds
        100  | up t0                                  | tell up; answer 198.18.0.10      | bob up t0r improve@600
        600  | timeout                                | request bob direct0 #1           | bob up t0r improve@5600 asks direct0#1
        610  | refused #1 no-way                      | tell still relayed               | bob up t0r improve@1110
        1110 | timeout                                | request bob direct1 #2           | bob up t0r improve@6110 asks direct1#2
        1150 | direction #2 bob dials direct direct1  | build t1                         | bob up t0r improve@6110 builds t1
        5150 | down t1 timeout                        | tell still relayed               | bob up t0r improve@6150
        5200 | surveyed                               |                                  | bob up t0r improve@5200
        5200 | timeout                                | request bob direct0 #3           | bob up t0r improve@10200 asks direct0#3
        ",
    );
}

#[test]
fn a_direct_tunnel_that_falls_silent_gives_way_to_the_relay_and_is_left_alone_for_long() {
    check(
        Case::new(true),
        "
        0     | registered                             |                             |
        0     | packet bob                             | tell wanted; request 198.18.0.10 any #0 | 198.18.0.10 asks any#0 holds
        10    | direction #0 bob dials direct any      | build t0                    | bob builds t0 relay@510 holds
        20    | up t0                                  | tell up; send t0?; flush    | bob up t0
        20    | sending t0 never due                   |                             | bob up t0
        3000  | sending t0 2900 due                    |                             | bob up t0
        8000  | sending t0 2900 idle                   |                             | bob up t0
        12999 | sending t0 2900 due                    |                             | bob up t0
        13000 | sending t0 2900 due                    | request bob relayed #1      | bob up t0 asks relayed#1
        13040 | direction #1 bob dials relayed relayed | build t1                    | bob up t0 builds t1r
        13100 | up t1                                  | tell up                     | bob up t1r replaced t0@18100 improve@77100
        ",
    );
}

#[test]
fn a_relayed_tunnel_waits_beside_a_live_direct_one_and_catches_what_that_loses() {
    check(
        Case::new(true),
        "
        0    | registered                             |                                  |
        0    | query bob                              | tell wanted; request bob any #0  | bob asks any#0 holds
        40   | direction #0 bob dials direct any      | build t0                         | bob builds t0 relay@540 holds
        540  | timeout                                | request bob relayed #1           | bob builds t0 asks relayed#1 holds
        560  | up t0                                  | tell up; answer 198.18.0.10      | bob up t0 asks relayed#1
        600  | direction #1 bob dials relayed relayed | build t1                         | bob up t0 builds t1r
        700  | up t1                                  |                                  | bob up t0 replaced t1r@5700
        800  | down t0 lost                           | tell still relayed               | bob up t1r improve@1300
        1300 | timeout                                | request bob direct1 #2           | bob up t1r improve@6300 asks direct1#2
        1400 | direction #2 bob dials direct direct1  | build t2                         | bob up t1r improve@6300 builds t2
        1500 | up t2                                  | tell up                          | bob up t2 replaced t1r@6500
        1600 | down t2 lost                           | tell still relayed               | bob up t1r improve@2600
        ",
    );
}

#[test]
fn failed_attempts_fall_back_to_the_relay_then_pause_and_let_the_other_node_dial() {
    check(
        Case::new(true),
        "
        0     | registered                             |                                  |
        0     | query bob                              | tell wanted; request bob any #0  | bob asks any#0 holds
        10    | direction #0 bob dials direct any      | build t0                         | bob builds t0 relay@510 holds
        20    | down t0 lost                           | request bob relayed #1           | bob asks relayed#1 holds
        30    | direction #1 bob dials relayed relayed | build t1                         | bob builds t1r holds
        40    | down t1 timeout                        |                                  | bob wanted direct1@240 holds
        240   | timeout                                | request bob direct1 #2           | bob asks direct1#2 holds
        250   | refused #2 no-way                      |                                  | bob wanted any@250 holds
        250   | timeout                                | request bob any #3               | bob asks any#3 holds
        260   | direction #3 bob dials relayed any     | build t2                         | bob builds t2r holds
        270   | down t2 timeout                        |                                  | bob wanted any@670 holds
        670   | timeout                                | request bob any #4               | bob asks any#4 holds
        4000  | timeout                                | answer 198.18.0.10               | bob asks any#4
        12000 | timeout                                |                                  | bob asks any#4
        24670 | timeout                                | tell down: no answer in time     |
        ",
    );
}

#[test]
fn a_lost_tunnel_is_forgotten_unless_another_is_being_built() {
    check(
        Case::new(true),
        "
        0    | registered                             |                                  |
        0    | query bob                              | tell wanted; request bob any #0  | bob asks any#0 holds
        40   | direction #0 bob dials relayed any     | build t0                         | bob builds t0r holds
        100  | up t0                                  | tell up; answer 198.18.0.10      | bob up t0r improve@600
        600  | timeout                                | request bob direct0 #1           | bob up t0r improve@5600 asks direct0#1
        640  | direction #1 bob dials direct direct0  | build t1                         | bob up t0r improve@5600 builds t1
        700  | down t0 lost                           | tell down: connection lost       | bob builds t1 relay@1140
        1140 | timeout                                | request bob relayed #2           | bob builds t1 asks relayed#2
        1200 | up t1                                  | tell up                          | bob up t1 asks relayed#2
        1300 | down t1 lost                           | tell down: connection lost       |
        1310 | refused #2 offline                     | drop unexpected                  |
        ",
    );
}
