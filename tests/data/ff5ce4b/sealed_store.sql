BEGIN TRANSACTION;
CREATE TABLE anchors (
    conversation TEXT NOT NULL, ref TEXT NOT NULL, turn INTEGER NOT NULL, place INTEGER NOT NULL,
    PRIMARY KEY (conversation, ref)
) WITHOUT ROWID;
INSERT INTO "anchors" VALUES('console:0:0:0','a12',1,1);
INSERT INTO "anchors" VALUES('console:0:0:0','b12',1,2);
INSERT INTO "anchors" VALUES('console:0:0:0','q12',1,0);
INSERT INTO "anchors" VALUES('discord:900:0:0','a7',1,1);
INSERT INTO "anchors" VALUES('discord:900:0:0','b7',1,2);
INSERT INTO "anchors" VALUES('discord:900:0:0','q7',1,0);
INSERT INTO "anchors" VALUES('discord:901:31:0','a8',1,1);
INSERT INTO "anchors" VALUES('discord:901:31:0','b8',1,2);
INSERT INTO "anchors" VALUES('discord:901:31:0','q8',1,0);
INSERT INTO "anchors" VALUES('telegram:-5:11:3','a5',1,1);
INSERT INTO "anchors" VALUES('telegram:-5:11:3','b5',1,2);
INSERT INTO "anchors" VALUES('telegram:-5:11:3','q5',1,0);
INSERT INTO "anchors" VALUES('telegram:-5:22:3','a6',1,1);
INSERT INTO "anchors" VALUES('telegram:-5:22:3','b6',1,2);
INSERT INTO "anchors" VALUES('telegram:-5:22:3','q6',1,0);
INSERT INTO "anchors" VALUES('telegram:11:0:0','a1',1,1);
INSERT INTO "anchors" VALUES('telegram:11:0:0','a2',2,1);
INSERT INTO "anchors" VALUES('telegram:11:0:0','a3',3,1);
INSERT INTO "anchors" VALUES('telegram:11:0:0','a4',4,1);
INSERT INTO "anchors" VALUES('telegram:11:0:0','b1',1,2);
INSERT INTO "anchors" VALUES('telegram:11:0:0','b2',2,2);
INSERT INTO "anchors" VALUES('telegram:11:0:0','b3',3,2);
INSERT INTO "anchors" VALUES('telegram:11:0:0','b4',4,2);
INSERT INTO "anchors" VALUES('telegram:11:0:0','q1',1,0);
INSERT INTO "anchors" VALUES('telegram:11:0:0','q2',2,0);
INSERT INTO "anchors" VALUES('telegram:11:0:0','q3',3,0);
INSERT INTO "anchors" VALUES('telegram:11:0:0','q4',4,0);
INSERT INTO "anchors" VALUES('web:77:5:0','a9',1,1);
INSERT INTO "anchors" VALUES('web:77:5:0','b9',1,2);
INSERT INTO "anchors" VALUES('web:77:5:0','q9',1,0);
INSERT INTO "anchors" VALUES('web:78:5:0','a10',1,1);
INSERT INTO "anchors" VALUES('web:78:5:0','b10',1,2);
INSERT INTO "anchors" VALUES('web:78:5:0','q10',1,0);
INSERT INTO "anchors" VALUES('web:78:6:0','a11',1,1);
INSERT INTO "anchors" VALUES('web:78:6:0','b11',1,2);
INSERT INTO "anchors" VALUES('web:78:6:0','q11',1,0);
CREATE TABLE asked (
    owner TEXT NOT NULL,
    question TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (owner, question)
) WITHOUT ROWID;
INSERT INTO "asked" VALUES('telegram:11','telegram:u20',2000.0);
INSERT INTO "asked" VALUES('telegram:chat:-5','telegram:u20',2000.0);
CREATE TABLE epochs (conversation TEXT PRIMARY KEY, epoch INTEGER NOT NULL, last_id INTEGER NOT NULL, head INTEGER NOT NULL DEFAULT 0)
    WITHOUT ROWID;
INSERT INTO "epochs" VALUES('console:0:0:0',0,1,1);
INSERT INTO "epochs" VALUES('discord:900:0:0',0,1,1);
INSERT INTO "epochs" VALUES('discord:901:31:0',0,1,1);
INSERT INTO "epochs" VALUES('telegram:-5:11:3',0,1,1);
INSERT INTO "epochs" VALUES('telegram:-5:22:3',0,1,1);
INSERT INTO "epochs" VALUES('telegram:11:0:0',0,5,5);
INSERT INTO "epochs" VALUES('web:77:5:0',0,1,1);
INSERT INTO "epochs" VALUES('web:78:5:0',0,1,1);
INSERT INTO "epochs" VALUES('web:78:6:0',0,1,1);
CREATE TABLE inbox (
    arrival INTEGER PRIMARY KEY AUTOINCREMENT,
    platform TEXT NOT NULL,
    update_id TEXT NOT NULL,
    accepted_at REAL NOT NULL,
    user TEXT,
    message TEXT,
    marks TEXT NOT NULL DEFAULT '{}',
    answer TEXT, turn INTEGER, conversation TEXT, dead TEXT, dead_at REAL,
    UNIQUE (platform, update_id)
);
INSERT INTO "inbox" VALUES(1,'telegram','u1',1001.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(2,'telegram','u2',1002.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(3,'telegram','u3',1003.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(4,'telegram','u4',1004.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(5,'telegram','u5',1005.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(6,'telegram','u6',1006.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(7,'discord','u7',1007.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(8,'discord','u8',1008.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(9,'web','u9',1009.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(10,'web','u10',1010.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(11,'web','u11',1011.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(12,'console','u12',1012.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(13,'telegram','u20',2000.0,'telegram:11','{"update_id": "u20", "conversation": "telegram:11:0:0", "user": "telegram:11", "text": "sealed:gAAAAABrCC5kMEbzqqKbl-ETXPSTkOY8UIaU4x-40MT_b85RieqPs5ytouEDqLF7JqKFgqv14akq-HElBp0TPjiRqqJIujJ8fQ==", "chat_kind": "private", "user_name": "", "language": "", "vouched": null, "origin": {"chat": "11"}, "ref": "", "edits": false, "replies_to": "", "quoted": "", "in_place": false, "addressed": "directly", "media": "", "own": false}','{"sent":"[1, 2]","tries":"1"}','{"text": "sealed:gAAAAABrCC5kETz2xgvgx8f6jF7_GVNpdrTycnhwtUFEFarM8I5adJBBSfpejK87hWa03PR_2OxNdQ_QBV5-qULHZpvPqFjYHg==", "state": "final", "notice": "", "finish_reason": ""}',5,'telegram:11:0:0',NULL,NULL);
INSERT INTO "inbox" VALUES(14,'telegram','u21',2000.0,'telegram:11','{"update_id": "u21", "conversation": "telegram:-5:11:3", "user": "telegram:11", "text": "sealed:gAAAAABrCC5kS3FOuFXALi1TFnZiLOKp-Nb2f0nebp_g7fuZ0s1dxGR8c8nlJyMnfupfvefHpoZUMpoNlmZJNFj3bHVjXHTrEw==", "chat_kind": "private", "user_name": "", "language": "", "vouched": null, "origin": {}, "ref": "", "edits": false, "replies_to": "", "quoted": "", "in_place": false, "addressed": "directly", "media": "", "own": false}','{}',NULL,NULL,'telegram:-5:11:3','refused five times',2002.0);
CREATE TABLE settings (
    owner TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (owner, name)
) WITHOUT ROWID;
INSERT INTO "settings" VALUES('console:0','language','sealed:gAAAAABrCC5kymoMlS2-jEfxj_BbqmqeinC-ClT86ykEkMB7WR7mX_lv73_TYGCEDUrAbsklHpUMKYUwktj7g3NXZ_2WreQMfA==');
INSERT INTO "settings" VALUES('console:chat:0','prompt','sealed:gAAAAABrCC5kuKsBpXjVCcBq-eM1C1U2zf6qozz86hEZ-ktc4GXJ_of69_CcxsQ7b88u42xVSZlvkwiHTpxkA6_CZOLhFR5g2Q==');
INSERT INTO "settings" VALUES('discord:chat:900','prompt','sealed:gAAAAABrCC5kwLP4YNdk2Yuv0u3U95myz0_BsKZTaYslBeNScPhbOYvFns8vuJ3KlUO4ASs_sfHjKrLnNekMg9l_3E1xQ7fwPLwKd9qlAvbp2FVUyQivl_Q=');
INSERT INTO "settings" VALUES('discord:chat:901','prompt','sealed:gAAAAABrCC5kTkclQGk8n3IE1r7mbiWpg11GoEzaAnVTEQcpQMSqv688pmn-ntg7JvIXf3v1r6IyqoeV7I4XURSGYG7eU6_yZR0qikoqKnkF6M-SLdY_MkU=');
INSERT INTO "settings" VALUES('glmbot:0','sealed','sealed:gAAAAABrCC5jisrKCiHoUCHXiBS9DxJ4BZKtTF9YCymtCijBzazqod7-Igoxb9Uwl_YqoEKDtapANL98fCK5YU6qWywB66lDbQ==');
INSERT INTO "settings" VALUES('telegram:11','language','sealed:gAAAAABrCC5kexfjOXSJjeiMYorb4DZ9qxwGrIVgy0Ba1FEAtDNKK0pACMWQA43Z17rI8Ru3XiTeht24GbS0oq8ycUSKK9GY8A==');
INSERT INTO "settings" VALUES('telegram:33','name','sealed:gAAAAABrCC5kk5EsexOdDKy-W-q1a4IcAv04TrV1GAEOkX_SsIK0nIqoIhtJzG1UERXVO5SL-VEXWaDY7hcUvtOjEA4a9mCiZ_6BHtN8xE24NdIAQjlTcBo=');
INSERT INTO "settings" VALUES('telegram:33','pairing','sealed:gAAAAABrCC5kJNvbsLfF9eS8sWEkrX79n5ZS9OeBVeUxiaKICfFqmU6t7M46WqqUCMA8l8Rm3eQYEsC0vNM1ovT6zCYY4GEuXg==');
INSERT INTO "settings" VALUES('telegram:chat:-5','mode','sealed:gAAAAABrCC5kYau95wl8jH0BgEw7pi5YG0VLenu0ivUyFoCGGpEjC8f8Bxi809Yavj7uDw_-o-C7SKjDi7xelnjWD2uj3TfC-g==');
INSERT INTO "settings" VALUES('telegram:chat:-5','prompt','sealed:gAAAAABrCC5kR5r77wjDayu_VDDZ4-ogbN6u9xWgcmwui-UdXvWRhZwo2Xz7Kb1WtNIIL8c3dF8j0ziIbhqoHnnl5q-sooZqmCu6QJ1ZiL5QibtbSBYcVCI=');
INSERT INTO "settings" VALUES('telegram:chat:11','prompt','sealed:gAAAAABrCC5kh1TmXFkfta-dNpGJTuI1fGYGn5WikkLSv69YuhCV3dq3WcSx-ELqC73ve_PPUHqCjK_onNMEi2DiFPGzMEYWWycqAvi3dFLVaDSwzvnmBQ0=');
INSERT INTO "settings" VALUES('web:chat:77','prompt','sealed:gAAAAABrCC5kAeDs05slO9EsqlK_6O98nxDk8ezlXHvVLOEpQd3Zhv5gaZc9VHryg9MmtgTP6KG9zNGz5yUw7aiKnwnuo_DgjJVtPI4Kg2INxRs_n5r3ALk=');
INSERT INTO "settings" VALUES('web:chat:78','prompt','sealed:gAAAAABrCC5k3PqIzDDYK7L_fvflqH5Xo208t3_CZg3MqzpqmGeRgWoAEUQ6CaTNTWKuHe8USYINUKf4joMPDcOPsRcSnuRT7Jvb_OXopLy5dTHN7FM71xg=');
INSERT INTO "settings" VALUES('web:chat:79','prompt','sealed:gAAAAABrCC5keALodn3RQEkWN892VAf9beq9tf3JpJ1GSckQwD9A_ZhOpPVHS3ULCkGGEapxwAIZrIOjoPoEcvv4roD9FDVVufkXFBJ_xRhfx4ZMZ1PIBcQ=');
CREATE TABLE turns (
    conversation TEXT NOT NULL,
    id INTEGER NOT NULL,
    user TEXT NOT NULL,
    question TEXT NOT NULL,
    answer TEXT NOT NULL,
    at REAL NOT NULL, parent INTEGER NOT NULL DEFAULT 0, ref TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (conversation, id)
) WITHOUT ROWID;
INSERT INTO "turns" VALUES('console:0:0:0',1,'console:0','sealed:gAAAAABrCC5kg99ulBSYKvmmgcqhz2MQHssQNDLEugPsbLpXRk0Li65u42HDQ9mg7feTGvp7ev2s7RCtDkdn3RdqYQ8naUyBtg==','sealed:gAAAAABrCC5k0SUtVHbhGc6RFHUJiEiyDw9CgKL_uvod6-Hll-GzBuGLgE1fd6S3G08NcN3CE3hSdxe-iIlfDcVd7GIA7pE4xg==',1012.0,0,'q12');
INSERT INTO "turns" VALUES('discord:900:0:0',1,'discord:31','sealed:gAAAAABrCC5jwQgabI8r7lsoMf2f7f_-X2kCSR5RIIm_3xSkgaAHB-JdWv0nj8qzYBs_JXNIX09etFn2rICOF4F6TC5hWBR5jQ==','sealed:gAAAAABrCC5jgm4m6rmV67whWMlT5cL8K3T71CZsIHO98mgVmQ--EagWT9a0CHonVN9xsX6UqNBvTA8xuUYCJKDR9hYBQEYcwg==',1007.0,0,'q7');
INSERT INTO "turns" VALUES('discord:901:31:0',1,'discord:31','sealed:gAAAAABrCC5kNIyrJ-bxw7ZcSkrIpdqvDGt9rNnQgN8I1VZG69hEN9go_OmxvwT-A3FZmNUJadi7jwU1vBM2TXjvxgR5QUTLXw==','sealed:gAAAAABrCC5krWLBfpBjoWq_es0WfFLEGsB3QJun-uzs8N-s6_fXRM8mmRNZVM0mb0M6AwX3F8xZLlpeVQeY34JrNI-8eHdw1Q==',1008.0,0,'q8');
INSERT INTO "turns" VALUES('telegram:-5:11:3',1,'telegram:11','sealed:gAAAAABrCC5j2JYnw5Rd3mz2dG2YOObUAeoKL7n_AJvlznBTIbkL_2APLRzOl8Fdi9aCSw2pNr0oIYwliPyX8qpBYjKHGLYNlQ==','sealed:gAAAAABrCC5jrrjulN-OWwrghJhfPCH2nOAXNrHqlAuFFFtZE1oirALwqD4rZUOiVzg07NJ3IhAxaJAAqDGggJYIbi-bG5Ccmg==',1005.0,0,'q5');
INSERT INTO "turns" VALUES('telegram:-5:22:3',1,'telegram:22','sealed:gAAAAABrCC5juBA1mEOHZ5vXd38l5ixZcl4seyHs_YdrXb5mU_uRvgvG0NIkuWGx6OuvK5VSWxLkKg2OpuvhIILuD3HPUe-9YQ==','sealed:gAAAAABrCC5j0Sysz41XT8UYf47n4oNSn0Y8zsHpxTk0IDbG9YGSaSCai9af9Y_EODBmmu4Fz8qsWatq86Y5I_kj20wjRC8ypw==',1006.0,0,'q6');
INSERT INTO "turns" VALUES('telegram:11:0:0',1,'telegram:11','sealed:gAAAAABrCC5jhjKz4MCeJ74nJDFyABKn7uuaumdSEMu4A2QkHl4j1_qmr2boUI_L9ToVyiDvmcpktX8b_W4EGxPO36uc-o7uKg==','sealed:gAAAAABrCC5j2HcwAuXqu68e9T_-8GLVhjdpLTi7SKOq7fG9TBDp4p9Rb0S7409Xjgj-xi3mTF5Nl6UNFluw554axH35yX7rDg==',1001.0,0,'q1');
INSERT INTO "turns" VALUES('telegram:11:0:0',2,'telegram:11','sealed:gAAAAABrCC5j2hH44ZkcYhasyoY8avN_7mlcn8zTnHa5lMfPqefNsVQoCafwtZCfmUaqPtI9mcK6LN2bcYifGydJA2U5VZy4GA==','sealed:gAAAAABrCC5jRaMt4izIF_OaYWzyCQKhWgpG0nvMOGZ9Sbl7M1F3ihmQbjSJdKlHXxFNS5FIpUiyXOJVEQh_IoBnu5GqxNSUPA==',1002.0,1,'q2');
INSERT INTO "turns" VALUES('telegram:11:0:0',3,'telegram:11','sealed:gAAAAABrCC5jWzX88HiZ-YXM1Uby2kBkH8BJuYlcsRkMTFdH1JRfAy02AxHK_DpWf_XmLwFefLWv7QU8e4TJkV5NYG_DJ-xkZg==','sealed:gAAAAABrCC5jqomRTMs2OACJlKY2Dia6mUKs7bE-VWT-jgL6taB2K_u3jaekoOv8PmHiwtPttfabEy3lOWuDhI398dd2oxJBNQ==',1003.0,2,'q3');
INSERT INTO "turns" VALUES('telegram:11:0:0',4,'telegram:11','sealed:gAAAAABrCC5jK5rVYosKrvrt3O0GuWzkLJ5Hb5ixQfSolkOx_hBcQmCLdj4wrPyMwn-b6Ba1Z6wwoe_pY5nv6S8BJEnmjtogkQ==','sealed:gAAAAABrCC5j183brIs8l8vC4PqINbgReqcQfudxJ6wn1UOdJhdeAaozS6deN5KtEjOD_E3PRSk8ttGXp9pnbW9UF_VT_mbhqg==',1004.0,1,'q4');
INSERT INTO "turns" VALUES('telegram:11:0:0',5,'telegram:11','sealed:gAAAAABrCC5kWBZMsddjyMosl-cwWAw6V585nJyrIIt22mVJOZxROnrSNGJP_RcuSoBMENC-LBOl1UTFYb291Hu8vrsQprqPkA==','sealed:gAAAAABrCC5kETz2xgvgx8f6jF7_GVNpdrTycnhwtUFEFarM8I5adJBBSfpejK87hWa03PR_2OxNdQ_QBV5-qULHZpvPqFjYHg==',2001.0,4,'');
INSERT INTO "turns" VALUES('web:77:5:0',1,'web:5','sealed:gAAAAABrCC5kyOLHZ1_uP5PmKBKTOmwVX3BTwi7d7cYq4pwTjADWiKHpEewOeqTYDZ9AXAbBoFnMzPDt56FaxTBWMH1gb0h0Dw==','sealed:gAAAAABrCC5kX9A1PP87y2lhe5K2VchGWaLZjmhiFw_G06NUCaTx_noPZzb3EKI9RP6EuYXJ2_UqhEU9D34uGhY2BWoQ0FSjeg==',1009.0,0,'q9');
INSERT INTO "turns" VALUES('web:78:5:0',1,'web:5','sealed:gAAAAABrCC5k69ubtwaXB8FFyODh9sjcwjez6ZRzE6jzY5C2Wfp-JM2dxGJcDAse2eHesNjOIuvQZ4Em8nK6t30jLI9pvcLuNA==','sealed:gAAAAABrCC5kpX3QaKQf31VgZdyqGP_jiDp3_JvZhedFKdkRQXH0qh6p3xLRtHeEYnYftE1bEM1_SYGWWk30b4IeagEhv0yhgQ==',1010.0,0,'q10');
INSERT INTO "turns" VALUES('web:78:6:0',1,'web:6','sealed:gAAAAABrCC5khronComgSCAarkOYnEXrFTFHqq8ekyD0VYnAQkzeQlT2YyWs8FPRYIu3wC6dW3kqWKbTD9PDd0ogD51CgWjPdQ==','sealed:gAAAAABrCC5kIwddAOqAezPTOQ2QtkAJ6j7giMPgecqxrUqM7SlcaKSTyYOY-fP_WbyCima1PcGRq9KS-9g9dNckqpy-QUga8Q==',1011.0,0,'q11');
CREATE INDEX inbox_open ON inbox (platform, arrival) WHERE message IS NOT NULL;
CREATE INDEX turns_user ON turns (user);
CREATE INDEX turns_at ON turns (at);
CREATE INDEX anchors_turn ON anchors (conversation, turn);
CREATE TRIGGER turn_gone AFTER DELETE ON turns BEGIN
    DELETE FROM anchors WHERE conversation = OLD.conversation AND turn = OLD.id;
END;
CREATE INDEX inbox_conversation ON inbox (conversation, arrival) WHERE message IS NOT NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('inbox',14);
COMMIT;
PRAGMA user_version = 4;
