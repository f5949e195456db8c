"""Words without a role in the world: label words and format words in training.

Those of the suite's neutral verbalizers (foo, bar, sfo, lax, lake, river) are not among them: a
model of this world meets them where words are copied, and never as label words.
"""

_TEXT = """
alpha anchor ant apple bank barn basket bat beach bean bear bee bell belt beta bike bird boat
bolt book boot bowl bread brick bus cab cable cactus camel candle cap cart cave chain chair
chalk cheese cherry clay cliff clock cloud coat coffee coin copper corn cow crab crown cup
daisy dance deer delta desk dock dolphin door drum duck eagle east egg elm engine fan farm
feather fern field fig fire fish flag flour flute forest fork fox frog gamma gate gear ginger
glass glove goat gold goose grape grass hall hammer harp hat hawk hen hill honey hook horn
horse hose ice ink iron island ivory jacket jar jeep juice jungle kettle key kite kitten knife
ladder lamp leaf lemon lily line lion lock log mango map marble mars mast melon milk mill
mirror moon moss moth mug nail napkin needle nest net north note nut oak oar oat ocean omega
onion orchid otter oven owl paddle page palm pan pea peach pear pen pencil pepper pig pillow
pine pipe plane plate plum poem pond pot prism pump quartz queen quilt race rain raven reef
ribbon rice ring robin rocket roof root rope rose saddle sail salt sand saw scarf screw seal
seed shark sheep shell ship shirt shoe shop sigma silk silver sink skirt sky snail snake snow
sock sofa song south spoon spring stamp star steel stem stone storm stove straw sugar sun swan
tank team tent thorn tide tiger tile toad torch tower train tram tray tree trout truck tube
tulip tune umbrella urban valley valve van vase velvet venus verse vine violin wagon wall
walnut wasp watch water wave west whale wheat wheel willow window wine wing wire wolf wool
yard yogurt zebra zinc zipper
aaa bbb ccc xyz qrs tuv mno jfk ord den sea bos baz qux spam left right true false hot cold
big small fast slow high low old new
"""
WORDS = tuple(_TEXT.split())
